//! The BPF programs of ngx502: they notice failed upstream attempts of nginx and what the kernel did about them.
//!
//! `hooks` holds one file a family of hooks, each a few lines that unpack arguments and call a body; `connection`
//! keeps what is known of nginx's upstream sockets; `request` reads nginx's structs; `kernel` and `user` are the only
//! raw reads; `emit` is the only way to the ring buffer. What is remembered between two hooks is in `maps`, as the types of
//! `state`.
#![no_std]
#![no_main]
// The build needs an unstable compiler anyway (`-Z build-std`); see `bound` for what it is good for.
#![feature(asm_experimental_arch)]

mod answer;
mod bound;
mod connection;
mod descriptor;
mod emit;
mod filter;
mod hooks;
mod kernel;
mod latency;
mod log_rate;
mod maps;
mod onward;
mod report;
mod request;
mod request_line;
mod sock;
mod sock_common;
mod stack;
mod state;
mod task;
mod thread;
mod upstream_states;
mod user;
mod user_block;

// "Dual MIT/GPL" gives access to the GPL-only helpers (bpf_probe_read_kernel, bpf_ktime_get_boot_ns).
#[unsafe(no_mangle)]
#[unsafe(link_section = "license")]
static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";

#[panic_handler]
fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
    // Never reached: the verifier refuses programs that could get here, since this loop does not end.
    loop {}
}
