//! nginx's error path: four exported functions whose first arguments have not changed since 1.14.

use aya_ebpf::{macros::uprobe, programs::ProbeContext};
use aya_log_ebpf::{debug, warn};
use ngx502_common::{
    config::loss,
    event::{VIA_CONNECTION_ERROR, VIA_LOG, VIA_SSL_ERROR},
};

use crate::{
    descriptor::sock_of_connection,
    emit, log_rate,
    report::{self, Call},
    request::{self, TracedBinary},
    stack,
    state::Thread,
    thread, user,
};

/// NGX_LOG_ERR: what is less severe is not a failure.
const LEVEL_ERROR: u64 = 4;

const BAD_GATEWAY: u16 = 502;
const GATEWAY_TIMEOUT: u16 = 504;
const ETIMEDOUT: i32 = 110;

/// `ngx_int_t ngx_http_special_response_handler(ngx_http_request_t *r, ngx_int_t error)`
#[uprobe]
pub fn special_response(ctx: ProbeContext) -> u32 {
    let _ = try_special_response(&ctx);
    stack::opt_out_of_private_stack(&ctx);
    0
}

/// `ngx_int_t ngx_http_send_header(ngx_http_request_t *r)`: on the success path, attached for `--passthrough` only.
#[uprobe]
pub fn send_header(ctx: ProbeContext) -> u32 {
    let _ = try_send_header(&ctx);
    stack::opt_out_of_private_stack(&ctx);
    0
}

/// `ngx_int_t ngx_connection_error(ngx_connection_t *c, ngx_err_t err, char *text)`
#[uprobe]
pub fn connection_error(ctx: ProbeContext) -> u32 {
    let _ = try_connection_error(&ctx);
    stack::opt_out_of_private_stack(&ctx);
    0
}

/// `void ngx_ssl_error(ngx_uint_t level, ngx_log_t *log, ngx_err_t err, char *fmt, ...)`
#[uprobe]
pub fn ssl_error(ctx: ProbeContext) -> u32 {
    let _ = try_ssl_error(&ctx);
    stack::opt_out_of_private_stack(&ctx);
    0
}

/// `void ngx_log_error_core(ngx_uint_t level, ngx_log_t *log, ngx_err_t err, const char *fmt, ...)`, in Angie ≥ 1.12
/// `(level, log, filename, err, fmt, ...)`.
#[uprobe]
pub fn log_error_core(ctx: ProbeContext) -> u32 {
    let _ = try_log_error_core(&ctx);
    stack::opt_out_of_private_stack(&ctx);
    0
}

#[inline(always)]
fn try_special_response(ctx: &ProbeContext) -> Option<()> {
    let status: u64 = ctx.arg(1)?;
    if !(500..600).contains(&status) {
        return None;
    }
    let build = request::build()?;
    let argument: u64 = ctx.arg(0)?;
    let thread = thread::current()?;
    thread.remember_error_page(argument);
    if report::reported_error_page(status as u16, argument, thread, &build) {
        return Some(());
    }
    let (found, rest) = thread.parts();
    if !found.find(argument, build.layout) {
        warn!(
            ctx,
            "an error page for {:x}, which is not a request: this nginx is not laid out as expected",
            argument
        );
        emit::count_loss(loss::UNREADABLE);
        return None;
    }
    if !found.has_line() {
        debug!(
            ctx,
            "the request line of {:x} was not found: method, URI and main request stay unknown", argument
        );
    }
    report::error_page(status as u16, found, rest, &build);
    Some(())
}

/// An upstream's own 502 or 504 that nginx passes on. What nginx answers itself has been reported by now.
#[inline(always)]
fn try_send_header(ctx: &ProbeContext) -> Option<()> {
    let argument: u64 = ctx.arg(0)?;
    let build = request::build()?;
    let thread = thread::current()?;
    // Asked first, since it also forgets: the next request may stand at the same address.
    if thread.was_error_page(argument) {
        return None;
    }
    let (found, rest) = thread.parts();
    if !found.find(argument, build.layout) {
        return None;
    }
    let status = found.status(build.layout);
    if !found.has_upstream(build.layout) || !(status == BAD_GATEWAY || status == GATEWAY_TIMEOUT) {
        return None;
    }
    report::error_page(status, found, rest, &build);
    Some(())
}

#[inline(always)]
fn try_connection_error(ctx: &ProbeContext) -> Option<()> {
    let build = request::build()?;
    let connection: u64 = ctx.arg(0)?;
    let call = Call {
        via: VIA_CONNECTION_ERROR,
        level: 0,
        errno: ctx.arg::<u64>(1)? as i32,
        text: ctx.arg(2)?,
        arguments: [0; 2],
    };
    let thread = thread::current()?;
    // `c->data` is the request for a connection to an upstream, new or taken from the pool.
    let request = user::word(connection);
    let (found, rest) = thread.parts();
    if !found.find(request, build.layout) || !found.has_upstream(build.layout) {
        return None;
    }
    let sk = if found.who.client != connection {
        sock_of_connection(connection, build.layout)
    } else if call.errno == ETIMEDOUT {
        // That the upstream of an upgraded connection timed out nginx says on the client's. So does a client's own time-out.
        found.upstream_sock(build.layout)
    } else {
        return None;
    };
    report::attempt(&call, found, sk, rest, &build);
    thread.remember_report(call.text, call.errno);
    Some(())
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
    report_log(&call, log, thread::current()?, &request::build()?)
}

#[inline(always)]
fn try_log_error_core(ctx: &ProbeContext) -> Option<()> {
    let level: u64 = ctx.arg(0)?;
    if level > LEVEL_ERROR {
        log_rate::count();
        return None;
    }
    // All registers at once, before any branch: the verifier refuses a load through a pointer into the context that
    // was chosen by a branch.
    let (log, a2, a3, a4, a5): (u64, u64, u64, u64, u64) =
        (ctx.arg(1)?, ctx.arg(2)?, ctx.arg(3)?, ctx.arg(4)?, ctx.arg(5)?);
    let build = request::build()?;
    let (errno, text, arguments) =
        if build.layout.log_core_has_file == 0 { (a2, a3, [a4, a5]) } else { (a3, a4, [a5, 0]) };
    let call = Call { via: VIA_LOG, level: level as u8, errno: errno as i32, text, arguments };
    let thread = thread::current()?;
    if thread.was_reported(call.text, call.errno) {
        return None;
    }
    report_log(&call, log, thread, &build)
}

#[inline(always)]
fn report_log(call: &Call, log: u64, thread: &mut Thread, build: &TracedBinary<'_>) -> Option<()> {
    let (found, rest) = thread.parts();
    if !found.find_logged(log, build.layout) {
        return None;
    }
    let sk = if found.has_upstream(build.layout) {
        found.upstream_sock(build.layout)
    } else if call.text == build.traced.auth_text {
        // The main request's, which has no upstream of its own yet: the subrequest's failed.
        0
    } else {
        return None;
    };
    report::attempt(call, found, sk, rest, build);
    Some(())
}
