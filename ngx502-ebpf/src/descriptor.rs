//! From a descriptor of the current process to the socket behind it.

use ngx502_common::layout::NginxLayout;

use crate::{
    kernel::{self, offset},
    task, user,
};

/// The socket behind an `ngx_connection_t`.
#[inline(always)]
pub fn sock_of_connection(connection: u64, layout: &NginxLayout) -> u64 {
    match user::read::<u32>(connection + u64::from(layout.connection_fd)) {
        Some(fd) => sock_of_fd(fd),
        None => 0,
    }
}

/// The `struct sock *` behind a descriptor of the current process; 0 when it is no socket. A socket and its sock
/// point at each other, which no other file's private data does.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn sock_of_fd(fd: u32) -> u64 {
    let files = kernel::read_or(task::current(), offset!(task_files), 0u64);
    let table = kernel::read_or(files, offset!(files_fdt), 0u64);
    if fd >= kernel::read_or(table, offset!(fdtable_max_fds), 0u32) {
        return 0;
    }
    let array = kernel::read_or(table, offset!(fdtable_fd), 0u64);
    if array == 0 {
        return 0;
    }
    let file = kernel::read_or(array + u64::from(fd) * 8, 0, 0u64);
    let socket = kernel::read_or(file, offset!(file_private_data), 0u64);
    let sk = kernel::read_or(socket, offset!(socket_sk), 0u64);
    if sk != 0 && kernel::read(sk, offset!(sk_socket)) == Some(socket) { sk } else { 0 }
}
