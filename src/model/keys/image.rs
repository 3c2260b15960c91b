//! `image.*`: properties of the image an instance was made from, copied at creation.

use super::key::{Key, Live::Record, Scope, Suffix};
use super::value::Value;

key_table! {
    IMAGE: "image.", Both, Value::Text, "Property of the image the instance was made from"
        => prefix(Suffix::Any), live(Record, Record);
    IMAGE_OS: "image.os", Both, Value::Text, "Operating system of the image" => live(Record, Record);
    IMAGE_TYPE: "image.type", Both, Value::Text, "Form of the image's root file system, `oci` for an application image"
        => live(Record, Record);
    IMAGE_REQUIREMENTS_CDROM_AGENT: "image.requirements.cdrom_agent", Both, Value::Text,
        "The image wants the agent on a CD-ROM" => live(Record, Record);
    IMAGE_REQUIREMENTS_CDROM_CLOUD_INIT: "image.requirements.cdrom_cloud_init", Both, Value::Text,
        "The image wants its cloud-init seed on a CD-ROM" => live(Record, Record);
    IMAGE_REQUIREMENTS_CGROUP: "image.requirements.cgroup", Both, Value::Text,
        "Control group version the image needs" => live(Record, Record);
    IMAGE_REQUIREMENTS_NESTING: "image.requirements.nesting", Both, Value::Text,
        "The image needs nesting" => live(Record, Record);
    IMAGE_REQUIREMENTS_PRIVILEGED: "image.requirements.privileged", Both, Value::Text,
        "Whether the image can run privileged or not" => live(Record, Record);
    IMAGE_REQUIREMENTS_SECUREBOOT: "image.requirements.secureboot", Both, Value::Text,
        "Whether the image can start with secure boot" => live(Record, Record);
}
