//! Where a request keeps its request line: the one place in `ngx_http_request_t` that moves from build to build.

use ngx502_common::layout::{ABSENT, NginxLayout};

use crate::{state::LineBlock, user};

/// How far `r->method` lies before `r->request_line`, everywhere.
pub const METHOD: u16 = 16;

/// The request line's offset: the layout's where the neighbours confirm it, else the one that a scan finds, which
/// is then remembered for the binary. Its surroundings are loaded.
#[inline(always)]
pub fn offset(request: u64, around: &mut LineBlock, layout: &NginxLayout) -> u16 {
    let known = layout.request_line;
    if known != ABSENT && around.load(request + u64::from(known) - u64::from(METHOD)) {
        let words = [0, 8, METHOD].map(|offset| around.word(offset));
        if is_method_and_version(words[0], words[1]) && is_length(words[2]) {
            return known;
        }
    }
    let found = ngx502_request_line(request) as u16;
    if found != ABSENT {
        // SAFETY: array memory; workers of one binary write the same value.
        unsafe { (&raw const layout.request_line).cast_mut().write_volatile(found) };
        around.load(request + u64::from(found) - u64::from(METHOD));
    }
    found
}

/// Scans for the request line. A global function, which the verifier checks once and not again for every state in
/// which it is called: that took most of the time that loading took.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn ngx502_request_line(request: u64) -> u64 {
    for step in 0..SCAN_WORDS {
        let offset = u64::from(SCAN_FIRST + step * 8);
        if is_request_line(request.wrapping_add(offset)) {
            return offset;
        }
    }
    u64::from(ABSENT)
}

/// `request_line` lies between these in every release and build; see `nginx::layout`.
const SCAN_FIRST: u16 = 760;
const SCAN_WORDS: u16 = 48;

/// `method`, `http_version`, `request_line.len`, `request_line.data` stand side by side in every release: a power of
/// two, one of five numbers, a small length, a pointer to text that begins with a letter.
#[inline(never)]
fn is_request_line(at: u64) -> bool {
    let Some([method, version, len, data]) = user::read::<[u64; 4]>(at - 16) else { return false };
    is_method_and_version(method, version)
        && is_length(len)
        && matches!(user::read::<u8>(data), Some(first) if first.is_ascii_alphabetic())
}

#[inline(always)]
fn is_method_and_version(method: u64, version: u64) -> bool {
    let known_version =
        version == 9 || version == 1000 || version == 1001 || version == 2000 || version == 3000;
    known_version && method != 0 && method <= 1 << 20 && method & (method - 1) == 0
}

#[inline(always)]
fn is_length(len: u64) -> bool {
    (3..=1 << 16).contains(&len)
}
