//! The first process of a container that asks for one: starts the command, passes signals on
//! to it, reaps what it leaves behind, and ends as it ended.
//!
//! Stands alone, without a C library or Rust's own, so that it runs in any image. Allocates
//! nothing; its only loop waits for signals.

// There is no library whose functions the compiler could put in place of a loop.
#![no_builtins]
#![no_std]
#![no_main]

use core::mem::MaybeUninit;

#[cfg(target_arch = "x86_64")]
mod kernel {
    pub const WRITE: usize = 1;
    pub const SIGPROCMASK: usize = 14;
    pub const IOCTL: usize = 16;
    pub const CLONE: usize = 56;
    pub const EXECVE: usize = 59;
    pub const WAIT4: usize = 61;
    pub const KILL: usize = 62;
    pub const SETPGID: usize = 109;
    pub const SIGTIMEDWAIT: usize = 128;
    pub const EXIT_GROUP: usize = 231;
    pub const GETPID: usize = 39;

    core::arch::global_asm!(
        ".global _start",
        "_start:",
        "mov rdi, rsp",
        "and rsp, -16",
        "call {begin}",
        "ud2",
        begin = sym super::begin,
    );

    /// # Safety
    /// As the kernel has it of the call `number`.
    pub unsafe fn call(number: usize, a: usize, b: usize, c: usize, d: usize) -> isize {
        let answer;
        unsafe {
            core::arch::asm!(
                "syscall",
                inlateout("rax") number => answer,
                in("rdi") a,
                in("rsi") b,
                in("rdx") c,
                in("r10") d,
                // A fifth argument is asked for by `clone` alone: none.
                in("r8") 0,
                lateout("rcx") _,
                lateout("r11") _,
                options(nostack),
            );
        }
        answer
    }
}

#[cfg(target_arch = "aarch64")]
mod kernel {
    pub const IOCTL: usize = 29;
    pub const WRITE: usize = 64;
    pub const EXIT_GROUP: usize = 94;
    pub const KILL: usize = 129;
    pub const SIGPROCMASK: usize = 135;
    pub const SIGTIMEDWAIT: usize = 137;
    pub const SETPGID: usize = 154;
    pub const GETPID: usize = 172;
    pub const CLONE: usize = 220;
    pub const EXECVE: usize = 221;
    pub const WAIT4: usize = 260;

    core::arch::global_asm!(
        ".global _start",
        "_start:",
        "mov x0, sp",
        "bl {begin}",
        "brk 1",
        begin = sym super::begin,
    );

    /// # Safety
    /// As the kernel has it of the call `number`.
    pub unsafe fn call(number: usize, a: usize, b: usize, c: usize, d: usize) -> isize {
        let answer;
        unsafe {
            core::arch::asm!(
                "svc 0",
                in("x8") number,
                inlateout("x0") a => answer,
                in("x1") b,
                in("x2") c,
                in("x3") d,
                in("x4") 0,
                options(nostack),
            );
        }
        answer
    }
}

use kernel::call;

const SIGCHLD: usize = 17;
const SIG_SETMASK: usize = 2;
const TIOCSPGRP: usize = 0x5410;
const WNOHANG: usize = 1;
const ENOENT: isize = 2;
const EACCES: isize = 13;
const ENOTDIR: isize = 20;
const PATH_MAX: usize = 4096;
const USUAL_PATH: &[u8] = b"/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin\0";

type Text = *const u8;

#[panic_handler]
fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
    end(125)
}

fn end(code: usize) -> ! {
    loop {
        // SAFETY: ends this process.
        unsafe { call(kernel::EXIT_GROUP, code, 0, 0, 0) };
    }
}

/// `stack`: the number of arguments, the arguments, 0, the variables, 0.
unsafe extern "C" fn begin(stack: *const usize) -> ! {
    unsafe {
        let count = *stack;
        let arguments = stack.add(1).cast::<Text>();
        let variables = arguments.add(count + 1);
        if count < 2 {
            // Asked for nothing: a try whether it runs at all.
            end(0)
        }
        let (all, none) = (!0u64, 0u64);
        mask(&all);
        let child = call(kernel::CLONE, SIGCHLD, 0, 0, 0);
        if child == 0 {
            // A group of its own, in front if there is a terminal, as a shell gives it.
            call(kernel::SETPGID, 0, 0, 0, 0);
            let own = call(kernel::GETPID, 0, 0, 0, 0) as i32;
            call(kernel::IOCTL, 0, TIOCSPGRP, &raw const own as usize, 0);
            mask(&none);
            become_command(arguments.add(1), variables)
        }
        if child < 0 {
            end(126)
        }
        loop {
            let signal = call(kernel::SIGTIMEDWAIT, &raw const all as usize, 0, 0, 8);
            if signal == SIGCHLD as isize {
                reap(child);
            } else if signal > 0 {
                call(kernel::KILL, child as usize, signal as usize, 0, 0);
            }
        }
    }
}

unsafe fn mask(set: &u64) {
    unsafe {
        call(
            kernel::SIGPROCMASK,
            SIG_SETMASK,
            set as *const u64 as usize,
            0,
            8,
        )
    };
}

/// All that have ended; with `child` we end.
unsafe fn reap(child: isize) {
    loop {
        let mut status = 0i32;
        let pid = unsafe { call(kernel::WAIT4, !0, &raw mut status as usize, WNOHANG, 0) };
        if pid <= 0 {
            return;
        }
        if pid == child {
            let signal = (status & 0x7f) as usize;
            end(match signal {
                0 => (status >> 8 & 0xff) as usize,
                signal => 128 + signal,
            })
        }
    }
}

/// A name without a slash is looked for in PATH.
unsafe fn become_command(arguments: *const Text, variables: *const Text) -> ! {
    unsafe {
        let command = *arguments;
        let execute = |place: Text| {
            call(
                kernel::EXECVE,
                place as usize,
                arguments as usize,
                variables as usize,
                0,
            )
        };
        let mut answer = -ENOENT;
        if holds(command, b'/') {
            answer = execute(command);
        } else if *command != 0 {
            let mut path = path_of(variables);
            let mut buffer = MaybeUninit::<[u8; PATH_MAX]>::uninit();
            let place = buffer.as_mut_ptr().cast::<u8>();
            loop {
                let (at, more) = join(place, path, command);
                path = at;
                if place_fits(place) {
                    match execute(place) {
                        error if error == -ENOENT || error == -ENOTDIR => {}
                        error if error == -EACCES => answer = error,
                        error => {
                            answer = error;
                            break;
                        }
                    }
                }
                if !more {
                    break;
                }
            }
        }
        complain(b"runrig: cannot run \0".as_ptr());
        complain(command);
        let absent = answer == -ENOENT || answer == -ENOTDIR;
        complain(match absent {
            true => b": it is not in the image\n\0".as_ptr(),
            false => b": it cannot be executed\n\0".as_ptr(),
        });
        end(if absent { 127 } else { 126 })
    }
}

/// The folder at `path`, a slash and `command`, in `place`; what follows in `path`, and
/// whether anything does. A place that is too long is empty.
unsafe fn join(place: *mut u8, path: Text, command: Text) -> (Text, bool) {
    unsafe {
        let (mut at, mut length) = (path, 0);
        let mut put = |byte: u8| {
            if length < PATH_MAX {
                *place.add(length) = byte;
            }
            length += 1;
        };
        while *at != 0 && *at != b':' {
            put(*at);
            at = at.add(1);
        }
        put(if at == path { b'.' } else { b'/' });
        if at == path {
            put(b'/');
        }
        let mut name = command;
        while *name != 0 {
            put(*name);
            name = name.add(1);
        }
        put(0);
        if length > PATH_MAX {
            *place = 0;
        }
        match *at {
            0 => (at, false),
            _ => (at.add(1), true),
        }
    }
}

unsafe fn place_fits(place: Text) -> bool {
    unsafe { *place != 0 }
}

unsafe fn path_of(variables: *const Text) -> Text {
    unsafe {
        let mut at = variables;
        while !(*at).is_null() {
            let (mut text, mut same) = (*at, true);
            for byte in *b"PATH=" {
                same = same && *text == byte;
                text = match *text {
                    0 => text,
                    _ => text.add(1),
                };
            }
            if same {
                return text;
            }
            at = at.add(1);
        }
        USUAL_PATH.as_ptr()
    }
}

unsafe fn holds(text: Text, byte: u8) -> bool {
    unsafe {
        let mut at = text;
        while *at != 0 && *at != byte {
            at = at.add(1);
        }
        *at != 0
    }
}

unsafe fn complain(text: Text) {
    unsafe {
        let mut length = 0;
        while *text.add(length) != 0 {
            length += 1;
        }
        call(kernel::WRITE, 2, text as usize, length, 0);
    }
}
