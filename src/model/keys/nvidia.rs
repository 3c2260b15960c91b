//! `nvidia.*`: passing the host's NVIDIA libraries into a container. One line each: the values end up in the environment of a
//! helper (GHSA-m3j6-p3v3-qmjv).

use super::key::{Key, Scope};
use super::value::Value;

key_table! {
    NVIDIA_DRIVER_CAPABILITIES: "nvidia.driver.capabilities", Container, Value::Line,
        "Driver parts the container needs" => default("compute,utility");
    NVIDIA_REQUIRE_CUDA: "nvidia.require.cuda", Container, Value::Line, "Required CUDA version, as an expression";
    NVIDIA_REQUIRE_DRIVER: "nvidia.require.driver", Container, Value::Line, "Required driver version, as an expression";
    NVIDIA_RUNTIME: "nvidia.runtime", Container, Value::Bool, "Pass the host's NVIDIA and CUDA libraries into the container"
        => default("false"), long("Not for privileged containers.");
}
