//! The system call filter: what Docker's default profile denies, denied for all.

use std::collections::BTreeMap;

use seccompiler::{BpfProgram, SeccompAction, SeccompFilter};
use serde_json::{Value, json};

/// Answered with EPERM: they reach the kernel's own configuration or other namespaces.
macro_rules! denied {
    ($($name:ident),* $(,)?) => {
        const DENIED: &[(&str, libc::c_long)] = &[$((stringify!($name), libc::$name)),*];
    };
}

denied!(
    SYS_acct,
    SYS_add_key,
    SYS_bpf,
    SYS_clock_adjtime,
    SYS_clock_settime,
    SYS_delete_module,
    SYS_fanotify_init,
    SYS_finit_module,
    SYS_fsconfig,
    SYS_fsmount,
    SYS_fsopen,
    SYS_fspick,
    SYS_init_module,
    SYS_io_uring_enter,
    SYS_io_uring_register,
    SYS_io_uring_setup,
    SYS_kcmp,
    SYS_kexec_file_load,
    SYS_kexec_load,
    SYS_keyctl,
    SYS_lookup_dcookie,
    SYS_mbind,
    SYS_migrate_pages,
    SYS_mount,
    SYS_mount_setattr,
    SYS_move_mount,
    SYS_move_pages,
    SYS_name_to_handle_at,
    SYS_open_by_handle_at,
    SYS_open_tree,
    SYS_perf_event_open,
    SYS_pivot_root,
    SYS_process_vm_readv,
    SYS_process_vm_writev,
    SYS_quotactl,
    SYS_reboot,
    SYS_request_key,
    SYS_set_mempolicy,
    SYS_setdomainname,
    SYS_sethostname,
    SYS_setns,
    SYS_settimeofday,
    SYS_swapoff,
    SYS_swapon,
    SYS_syslog,
    SYS_umount2,
    SYS_unshare,
    SYS_userfaultfd,
    SYS_vhangup,
);

/// Programs in the order in which they are applied. `clone3` is answered with ENOSYS, so
/// that C libraries fall back to `clone`, whose flags a filter can see.
pub fn programs() -> Result<Vec<BpfProgram>, String> {
    let arch = std::env::consts::ARCH
        .try_into()
        .map_err(|e: seccompiler::BackendError| e.to_string())?;
    let filter = |numbers: &[libc::c_long], errno: i32| -> Result<BpfProgram, String> {
        let rules: BTreeMap<i64, Vec<seccompiler::SeccompRule>> =
            numbers.iter().map(|n| (*n, Vec::new())).collect();
        SeccompFilter::new(
            rules,
            SeccompAction::Allow,
            SeccompAction::Errno(errno as u32),
            arch,
        )
        .and_then(TryInto::try_into)
        .map_err(|e| e.to_string())
    };
    let denied: Vec<libc::c_long> = DENIED.iter().map(|(_, n)| *n).collect();
    Ok(vec![
        filter(&denied, libc::EPERM)?,
        filter(&[libc::SYS_clone3], libc::ENOSYS)?,
    ])
}

/// The same as `linux.seccomp` of an OCI config, for runtimes that read it.
pub fn oci() -> Value {
    let names: Vec<&str> = DENIED
        .iter()
        .map(|(name, _)| name.trim_start_matches("SYS_"))
        .collect();
    json!({
        "defaultAction": "SCMP_ACT_ALLOW",
        "syscalls": [
            { "names": names, "action": "SCMP_ACT_ERRNO", "errnoRet": libc::EPERM },
            { "names": ["clone3"], "action": "SCMP_ACT_ERRNO", "errnoRet": libc::ENOSYS },
        ],
    })
}
