//! The system call filter: what Docker's default profile denies, denied for all.

use std::collections::BTreeMap;
use std::sync::OnceLock;

use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter,
    SeccompRule,
};
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

/// Of these, what a container that nests needs: they end at its own user namespace.
const NESTING: &[libc::c_long] = &[
    libc::SYS_mount,
    libc::SYS_pivot_root,
    libc::SYS_setdomainname,
    libc::SYS_sethostname,
    libc::SYS_umount2,
    libc::SYS_unshare,
];

/// The one namespace that it cannot make either.
const NO_NESTING: u64 = libc::CLONE_NEWUSER as u64;

/// Flags of `clone` that make namespaces: a user namespace would give back every capability.
const NAMESPACES: [u64; 7] = [
    libc::CLONE_NEWNS as u64,
    libc::CLONE_NEWCGROUP as u64,
    libc::CLONE_NEWUTS as u64,
    libc::CLONE_NEWIPC as u64,
    libc::CLONE_NEWUSER as u64,
    libc::CLONE_NEWPID as u64,
    libc::CLONE_NEWNET as u64,
];

fn of(nests: bool) -> impl Iterator<Item = (&'static str, libc::c_long)> {
    let given = move |number: &libc::c_long| nests && NESTING.contains(number);
    let all = DENIED.iter().copied();
    all.filter(move |(_, number)| !given(number))
}

/// Calls that are denied with a flag as their first argument.
fn flags(nests: bool) -> Vec<(libc::c_long, u64)> {
    match nests {
        true => vec![
            (libc::SYS_clone, NO_NESTING),
            (libc::SYS_unshare, NO_NESTING),
        ],
        false => NAMESPACES.map(|flag| (libc::SYS_clone, flag)).to_vec(),
    }
}

/// Programs in the order in which they are applied. `clone3` is answered with ENOSYS, so
/// that C libraries fall back to `clone`, whose flags a filter can see.
fn programs(nests: bool) -> Result<Vec<BpfProgram>, String> {
    let arch = std::env::consts::ARCH
        .try_into()
        .map_err(|e: seccompiler::BackendError| e.to_string())?;
    let filter =
        |rules: BTreeMap<i64, Vec<SeccompRule>>, errno: i32| -> Result<BpfProgram, String> {
            SeccompFilter::new(
                rules,
                SeccompAction::Allow,
                SeccompAction::Errno(errno as u32),
                arch,
            )
            .and_then(TryInto::try_into)
            .map_err(|e| e.to_string())
        };
    let mut denied: BTreeMap<i64, Vec<SeccompRule>> =
        of(nests).map(|(_, number)| (number, Vec::new())).collect();
    for (call, flag) in flags(nests) {
        let set = SeccompCondition::new(
            0,
            SeccompCmpArgLen::Qword,
            SeccompCmpOp::MaskedEq(flag),
            flag,
        );
        let rule = set.and_then(|set| SeccompRule::new(vec![set]));
        let rules = denied.entry(call).or_default();
        rules.push(rule.map_err(|e| e.to_string())?);
    }
    Ok(vec![
        filter(denied, libc::EPERM)?,
        filter(
            BTreeMap::from([(libc::SYS_clone3, Vec::new())]),
            libc::ENOSYS,
        )?,
    ])
}

/// The usual programs, compiled once; a fork has them from its parent.
pub fn usual() -> Result<&'static [BpfProgram], String> {
    static USUAL: OnceLock<Result<Vec<BpfProgram>, String>> = OnceLock::new();
    let made = USUAL.get_or_init(|| programs(false));
    made.as_deref().map_err(String::clone)
}

/// Filters what this process and its children may ask of the kernel, for good.
pub fn apply(nests: bool) -> Result<(), String> {
    let own = if nests { programs(true)? } else { Vec::new() };
    for program in if nests { &own } else { usual()? } {
        seccompiler::apply_filter(program).map_err(|e| format!("filter system calls: {e}"))?;
    }
    Ok(())
}

/// The same as `linux.seccomp` of an OCI config, for runtimes that read it.
pub fn oci(nests: bool) -> Value {
    let names: Vec<&str> = of(nests)
        .map(|(name, _)| name.trim_start_matches("SYS_"))
        .collect();
    let mut syscalls = vec![
        json!({ "names": names, "action": "SCMP_ACT_ERRNO", "errnoRet": libc::EPERM }),
        json!({ "names": ["clone3"], "action": "SCMP_ACT_ERRNO", "errnoRet": libc::ENOSYS }),
    ];
    for (call, flag) in flags(nests) {
        let name = if call == libc::SYS_clone {
            "clone"
        } else {
            "unshare"
        };
        syscalls.push(
            json!({ "names": [name], "action": "SCMP_ACT_ERRNO", "errnoRet": libc::EPERM,
            "args": [{ "index": 0, "value": flag, "valueTwo": flag, "op": "SCMP_CMP_MASKED_EQ" }] }),
        );
    }
    json!({ "defaultAction": "SCMP_ACT_ALLOW", "syscalls": syscalls })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clone_makes_no_namespace_but_threads() {
        let tried = std::thread::spawn(|| {
            for program in programs(false).expect("compiles") {
                seccompiler::apply_filter(&program).expect("applies");
            }
            for flag in NAMESPACES {
                // SAFETY: a child, were one made, ends at once.
                let made = unsafe { libc::syscall(libc::SYS_clone, flag, 0, 0, 0, 0) };
                let error = std::io::Error::last_os_error().raw_os_error();
                if made == 0 {
                    // SAFETY: leaves the child, running nothing else.
                    unsafe { libc::_exit(0) };
                }
                assert_eq!((made, error), (-1, Some(libc::EPERM)), "{flag:x}");
            }
            std::thread::spawn(|| 5).join().expect("threads go on")
        });
        assert_eq!(tried.join().expect("no panic"), 5);
    }

    #[test]
    fn who_nests_makes_every_namespace_but_that_of_users() {
        let tried = std::thread::spawn(|| {
            for program in programs(true).expect("compiles") {
                seccompiler::apply_filter(&program).expect("applies");
            }
            // SAFETY: asks for namespaces of this thread, or is refused.
            let unshare = |flags: i32| match unsafe { libc::unshare(flags) } {
                0 => None,
                _ => std::io::Error::last_os_error().raw_os_error(),
            };
            assert_eq!(unshare(libc::CLONE_NEWUSER), Some(libc::EPERM));
            let both = libc::CLONE_NEWUSER | libc::CLONE_NEWNS;
            assert_eq!(unshare(both), Some(libc::EPERM));
            // SAFETY: asks for nothing.
            let setns = unsafe { libc::syscall(libc::SYS_setns, -1, 0) };
            let error = std::io::Error::last_os_error().raw_os_error();
            assert_eq!((setns, error), (-1, Some(libc::EPERM)));
            assert_eq!(unshare(libc::CLONE_NEWUTS), None, "the tests run as root");
        });
        tried.join().expect("no panic");
    }
}
