//! The device rule of cgroup v2: a small BPF program on a cgroup (bpf(2), `BPF_PROG_TYPE_CGROUP_DEVICE`).
//!
//! Only privileged containers need one: an unprivileged one owns no device node it could open by itself.

use super::{Result, check};
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

/// What an allowed device is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Device {
    /// Block device; else character.
    pub block: bool,
    /// Major number; none matches all.
    pub major: Option<u32>,
    /// Minor number; none matches all.
    pub minor: Option<u32>,
    /// May be opened, not only made with mknod(2).
    pub open: bool,
}

#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Insn {
    code: u8,
    regs: u8,
    off: i16,
    imm: i32,
}

const LDX_W: u8 = 0x61;
const MOV_REG: u8 = 0xbf;
const MOV_IMM: u8 = 0xb7;
const AND_IMM: u8 = 0x57;
const RSH_IMM: u8 = 0x77;
const JNE_IMM: u8 = 0x55;
const EXIT: u8 = 0x95;
/// linux/bpf.h: BPF_DEVCG_DEV_BLOCK, _CHAR; BPF_DEVCG_ACC_MKNOD.
const DEV_BLOCK: i32 = 1;
const DEV_CHAR: i32 = 2;
const ACC_MKNOD: i32 = 1;

fn insn(code: u8, dst: u8, src: u8, off: i16, imm: i32) -> Insn {
    Insn { code, regs: dst | (src << 4), off, imm }
}

/// struct bpf_cgroup_dev_ctx: access_type (access << 16 | type), major, minor.
fn program(allow: &[Device]) -> Vec<Insn> {
    let mut out = vec![
        insn(LDX_W, 2, 1, 0, 0),
        insn(MOV_REG, 3, 2, 0, 0),
        insn(AND_IMM, 2, 0, 0, 0xffff),
        insn(RSH_IMM, 3, 0, 0, 16),
        insn(LDX_W, 4, 1, 4, 0),
        insn(LDX_W, 5, 1, 8, 0),
    ];
    for d in allow {
        let mut tests = vec![insn(JNE_IMM, 2, 0, 0, if d.block { DEV_BLOCK } else { DEV_CHAR })];
        if !d.open {
            tests.push(insn(JNE_IMM, 3, 0, 0, ACC_MKNOD));
        }
        tests.extend(d.major.map(|m| insn(JNE_IMM, 4, 0, 0, m as i32)));
        tests.extend(d.minor.map(|m| insn(JNE_IMM, 5, 0, 0, m as i32)));
        let count = tests.len();
        for (i, mut t) in tests.into_iter().enumerate() {
            // Past the remaining tests and the two instructions that allow.
            t.off = (count - i - 1 + 2) as i16;
            out.push(t);
        }
        out.push(insn(MOV_IMM, 0, 0, 0, 1));
        out.push(insn(EXIT, 0, 0, 0, 0));
    }
    out.push(insn(MOV_IMM, 0, 0, 0, 0));
    out.push(insn(EXIT, 0, 0, 0, 0));
    out
}

/// Allows only `allow` to the processes of the cgroup behind `cgroup`.
///
/// # Errors
/// As bpf(2).
pub fn restrict_devices(cgroup: BorrowedFd<'_>, allow: &[Device]) -> Result<()> {
    const PROG_LOAD: libc::c_long = 5;
    const PROG_ATTACH: libc::c_long = 8;
    const TYPE_CGROUP_DEVICE: u32 = 15;
    const ATTACH_CGROUP_DEVICE: u32 = 6;
    #[repr(C)]
    struct Load {
        prog_type: u32,
        insn_cnt: u32,
        insns: u64,
        license: u64,
        rest: [u64; 12],
    }
    #[repr(C)]
    struct Attach {
        target_fd: u32,
        attach_bpf_fd: u32,
        attach_type: u32,
        attach_flags: u32,
    }
    let code = program(allow);
    let load = Load {
        prog_type: TYPE_CGROUP_DEVICE,
        insn_cnt: code.len() as u32,
        insns: code.as_ptr() as u64,
        license: c"GPL".as_ptr() as u64,
        rest: [0; 12],
    };
    // SAFETY: the attribute structures match the kernel's union for these commands and live across the calls; the
    // descriptor returned is new and ours.
    unsafe {
        let fd = check("bpf", libc::syscall(libc::SYS_bpf, PROG_LOAD, &raw const load, size_of::<Load>()))?;
        let fd = OwnedFd::from_raw_fd(fd as i32);
        let attach = Attach {
            target_fd: cgroup.as_raw_fd() as u32,
            attach_bpf_fd: fd.as_raw_fd() as u32,
            attach_type: ATTACH_CGROUP_DEVICE,
            attach_flags: 0,
        };
        check("bpf", libc::syscall(libc::SYS_bpf, PROG_ATTACH, &raw const attach, size_of::<Attach>())).map(drop)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rule_jumps_over_its_allow() {
        let p = program(&[Device { block: false, major: Some(1), minor: Some(3), open: true }]);
        let first = 6;
        assert_eq!(p[first], insn(JNE_IMM, 2, 0, 4, DEV_CHAR));
        assert_eq!(p[first + 2], insn(JNE_IMM, 5, 0, 2, 3));
        assert_eq!(p.len(), 6 + 5 + 2);
    }
}
