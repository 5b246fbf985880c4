//! nginx's error path: four exported functions whose first arguments have not changed since 1.14.

use aya_ebpf::{macros::uprobe, programs::ProbeContext};
use aya_log_ebpf::{debug, warn};
use ngx502_common::{
    config::loss,
    event::{VIA_CONNECTION_ERROR, VIA_LOG, VIA_SSL_ERROR},
};

use crate::{
    chatter, emit,
    maps::TRACED,
    report::{self, Call},
    request, stack, task, thread, user,
};

/// NGX_LOG_ERR: what is less severe than this is no failure.
const LEVEL_ERROR: u64 = 4;

const BAD_GATEWAY: u16 = 502;
const GATEWAY_TIMEOUT: u16 = 504;

/// `ngx_int_t ngx_http_special_response_handler(ngx_http_request_t *r, ngx_int_t error)`
#[uprobe]
pub fn special_response(ctx: ProbeContext) -> u32 {
    let _ = try_special_response(&ctx);
    stack::keep_own(&ctx);
    0
}

/// `ngx_int_t ngx_http_send_header(ngx_http_request_t *r)`: on the success path, attached for `--passthrough` only.
#[uprobe]
pub fn send_header(ctx: ProbeContext) -> u32 {
    let _ = try_send_header(&ctx);
    stack::keep_own(&ctx);
    0
}

/// `ngx_int_t ngx_connection_error(ngx_connection_t *c, ngx_err_t err, char *text)`
#[uprobe]
pub fn connection_error(ctx: ProbeContext) -> u32 {
    let _ = try_connection_error(&ctx);
    stack::keep_own(&ctx);
    0
}

/// `void ngx_ssl_error(ngx_uint_t level, ngx_log_t *log, ngx_err_t err, char *fmt, ...)`
#[uprobe]
pub fn ssl_error(ctx: ProbeContext) -> u32 {
    let _ = try_ssl_error(&ctx);
    stack::keep_own(&ctx);
    0
}

/// `void ngx_log_error_core(ngx_uint_t level, ngx_log_t *log, ngx_err_t err, const char *fmt, ...)`, in Angie ≥ 1.12
/// `(level, log, filename, err, fmt, ...)`.
#[uprobe]
pub fn log_error_core(ctx: ProbeContext) -> u32 {
    let _ = try_log_error_core(&ctx);
    stack::keep_own(&ctx);
    0
}

#[inline(always)]
fn try_special_response(ctx: &ProbeContext) -> Option<()> {
    let status: u64 = ctx.arg(1)?;
    if !(500..600).contains(&status) {
        return None;
    }
    // SAFETY: copied at once.
    let traced = *unsafe { TRACED.get(&task::tgid()) }?;
    let layout = request::layout(traced.layout)?;
    let argument: u64 = ctx.arg(0)?;
    let Some(found) = request::find(argument, layout) else {
        warn!(
            ctx,
            "an error page for {:x}, which is no request: this nginx is not laid out as expected", argument
        );
        emit::count_loss(loss::UNREADABLE);
        return None;
    };
    if found.line == u16::MAX {
        debug!(
            ctx,
            "the request line of {:x} was not found: method, URI and main request stay unknown", argument
        );
    }
    thread::remember_error_page(argument);
    report::error_page(status as u16, &found, layout, traced.layout)
}

/// An upstream's own 502 or 504 that nginx passes on. What nginx answers itself has been reported by now.
#[inline(always)]
fn try_send_header(ctx: &ProbeContext) -> Option<()> {
    let argument: u64 = ctx.arg(0)?;
    // SAFETY: copied at once.
    let traced = *unsafe { TRACED.get(&task::tgid()) }?;
    // Asked first, since it also forgets: the next request may stand at the same address.
    if thread::was_error_page(argument) {
        return None;
    }
    let layout = request::layout(traced.layout)?;
    let found = request::find(argument, layout)?;
    let status = found.status(layout);
    if found.upstream == 0 || !(status == BAD_GATEWAY || status == GATEWAY_TIMEOUT) {
        return None;
    }
    report::error_page(status, &found, layout, traced.layout)
}

#[inline(always)]
fn try_connection_error(ctx: &ProbeContext) -> Option<()> {
    // SAFETY: copied at once.
    let traced = *unsafe { TRACED.get(&task::tgid()) }?;
    let connection: u64 = ctx.arg(0)?;
    let call = Call {
        via: VIA_CONNECTION_ERROR,
        level: 0,
        errno: ctx.arg::<u64>(1)? as i32,
        text: ctx.arg(2)?,
        arguments: [0; 2],
    };
    let layout = request::layout(traced.layout)?;
    // `c->data` is the request for a connection to an upstream, new or taken from the pool.
    let found = request::find(user::word(connection), layout)?;
    if found.client == connection || found.upstream == 0 {
        return None;
    }
    thread::remember_report(call.text, call.errno);
    report::attempt(&call, &found, request::sock_of_connection(connection, layout), layout, traced.layout)
}

#[inline(always)]
fn try_ssl_error(ctx: &ProbeContext) -> Option<()> {
    let (level, log): (u64, u64) = (ctx.arg(0)?, ctx.arg(1)?);
    // The log call that follows carries the same errno and OpenSSL's text on top.
    if user::word(log) >= level {
        return None;
    }
    let call = Call {
        via: VIA_SSL_ERROR,
        level: level as u8,
        errno: ctx.arg::<u64>(2)? as i32,
        text: ctx.arg(3)?,
        arguments: [0; 2],
    };
    report_log(&call, log)
}

#[inline(always)]
fn try_log_error_core(ctx: &ProbeContext) -> Option<()> {
    let level: u64 = ctx.arg(0)?;
    if level > LEVEL_ERROR {
        chatter::count();
        return None;
    }
    // All registers at once, before any branch: the verifier refuses a load through a pointer into the context that
    // was chosen by a branch.
    let (log, a2, a3, a4, a5): (u64, u64, u64, u64, u64) =
        (ctx.arg(1)?, ctx.arg(2)?, ctx.arg(3)?, ctx.arg(4)?, ctx.arg(5)?);
    // SAFETY: copied at once.
    let traced = *unsafe { TRACED.get(&task::tgid()) }?;
    let layout = request::layout(traced.layout)?;
    let (errno, text, arguments) =
        if layout.log_core_has_file == 0 { (a2, a3, [a4, a5]) } else { (a3, a4, [a5, 0]) };
    let call = Call { via: VIA_LOG, level: level as u8, errno: errno as i32, text, arguments };
    if thread::was_reported(call.text, call.errno) {
        return None;
    }
    report_log(&call, log)
}

#[inline(always)]
fn report_log(call: &Call, log: u64) -> Option<()> {
    // SAFETY: copied at once.
    let traced = *unsafe { TRACED.get(&task::tgid()) }?;
    let layout = request::layout(traced.layout)?;
    let found = request::find(request::of_log(log, layout), layout)?;
    // auth_request's own words come from the main request, which has no upstream of its own yet.
    if found.upstream == 0 {
        return None;
    }
    report::attempt(call, &found, found.upstream_sock(layout), layout, traced.layout)
}
