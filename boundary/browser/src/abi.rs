//! How a page's script calls [`check`](crate::check): bytes in linear memory, one buffer for request and answer.
//!
//! The script asks for [`room`], writes the request there, calls [`check`], and reads so many bytes from
//! [`answer`] on. The buffer is the module's own and one call follows another, so nothing here is unsafe
//! but the names, which no other crate in the module uses.

use std::sync::{Mutex, MutexGuard, PoisonError};

/// A proof is a few kilobytes, and a block's duty some hundred.
const BYTES_MAX: usize = 16 << 20;

static BUFFER: Mutex<Vec<u8>> = Mutex::new(Vec::new());

fn buffer() -> MutexGuard<'static, Vec<u8>> {
    BUFFER.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Where a request of so many bytes is to be written; 0 if that is too much.
#[unsafe(no_mangle)]
extern "C" fn room(bytes: usize) -> *mut u8 {
    if bytes > BYTES_MAX {
        return std::ptr::null_mut();
    }
    let mut buffer = buffer();
    buffer.clear();
    buffer.resize(bytes, 0);
    buffer.as_mut_ptr()
}

/// Checks what stands in the buffer; the answer stands there then, in so many bytes.
#[unsafe(no_mangle)]
extern "C" fn check() -> usize {
    let mut buffer = buffer();
    *buffer = crate::check(&buffer).to_json();
    buffer.len()
}

/// Where the answer begins.
#[unsafe(no_mangle)]
extern "C" fn answer() -> *const u8 {
    buffer().as_ptr()
}
