//! The offsets that the BPF programs need, from BTF.

use ngx502_common::config::{ABSENT, KernelLayout};

use super::btf::KernelTypes;

/// Bytes in a pointer.
const POINTER: u16 = 8;

/// Resolves every offset; what this kernel lacks is [`ABSENT`].
pub fn resolve(types: &KernelTypes) -> KernelLayout {
    let at = |structure, path| types.offset(structure, path).unwrap_or(ABSENT);
    let plus = |offset: u16, distance: u16| if offset == ABSENT { ABSENT } else { offset + distance };
    KernelLayout {
        skc_family: at("sock", "__sk_common.skc_family"),
        skc_state: at("sock", "__sk_common.skc_state"),
        skc_dport: at("sock", "__sk_common.skc_dport"),
        skc_daddr: at("sock", "__sk_common.skc_daddr"),
        skc_rcv_saddr: at("sock", "__sk_common.skc_rcv_saddr"),
        skc_v6_daddr: at("sock", "__sk_common.skc_v6_daddr"),
        skc_v6_rcv_saddr: at("sock", "__sk_common.skc_v6_rcv_saddr"),
        skc_net: at("sock", "__sk_common.skc_net"),
        skc_num: at("sock", "__sk_common.skc_num"),
        net_inum: at("net", "ns.inum"),
        sk_err: at("sock", "sk_err"),
        sk_socket: at("sock", "sk_socket"),
        sk_type: at("sock", "sk_type"),
        sk_ack_backlog: at("sock", "sk_ack_backlog"),
        sk_max_ack_backlog: at("sock", "sk_max_ack_backlog"),
        sk_receive_qlen: at("sock", "sk_receive_queue.qlen"),
        sk_error_queue_prev: at("sock", "sk_error_queue.prev"),
        inet_sport: at("inet_sock", "inet_sport"),
        tcp_bytes_received: at("tcp_sock", "bytes_received"),
        tcp_bytes_acked: at("tcp_sock", "bytes_acked"),
        tcp_rcv_nxt: at("tcp_sock", "rcv_nxt"),
        tcp_snd_una: at("tcp_sock", "snd_una"),
        tcp_write_seq: at("tcp_sock", "write_seq"),
        tcp_copied_seq: at("tcp_sock", "copied_seq"),
        tcp_snd_wnd: at("tcp_sock", "snd_wnd"),
        unix_peer: at("unix_sock", "peer"),
        unix_addr: at("unix_sock", "addr"),
        unix_address_len: at("unix_address", "len"),
        unix_address_name: at("unix_address", "name"),
        socket_file: at("socket", "file"),
        socket_sk: at("socket", "sk"),
        socket_inode: socket_inode(types).unwrap_or(ABSENT),
        file_private_data: at("file", "private_data"),
        task_files: at("task_struct", "files"),
        files_fdt: at("files_struct", "fdt"),
        fdtable_fd: at("fdtable", "fd"),
        fdtable_max_fds: at("fdtable", "max_fds"),
        task_flags: at("task_struct", "flags"),
        task_exit_code: at("task_struct", "exit_code"),
        task_signal: at("task_struct", "signal"),
        task_tgid: at("task_struct", "tgid"),
        task_group_leader: at("task_struct", "group_leader"),
        task_real_parent: at("task_struct", "real_parent"),
        task_comm: at("task_struct", "comm"),
        task_start: at("task_struct", "start_boottime|real_start_time"),
        task_cgroups: at("task_struct", "cgroups"),
        task_mm: at("task_struct", "mm"),
        task_nsproxy: at("task_struct", "nsproxy"),
        nsproxy_mnt_ns: at("nsproxy", "mnt_ns"),
        mnt_namespace_inum: at("mnt_namespace", "ns.inum"),
        signal_live: at("signal_struct", "live"),
        signal_group_exit_code: at("signal_struct", "group_exit_code"),
        signal_oom_mm: at("signal_struct", "oom_mm"),
        css_set_memory: types
            .enumerator("cgroup_subsys_id", "memory_cgrp_id")
            .map_or(ABSENT, |slot| plus(at("css_set", "subsys"), slot as u16 * POINTER)),
        css_cgroup: at("cgroup_subsys_state", "cgroup"),
        css_parent: at("cgroup_subsys_state", "parent"),
        memcg_max: at("mem_cgroup", "memory.max"),
        memcg_usage: at("mem_cgroup", "memory.usage"),
        cgroup_kn: at("cgroup", "kn"),
        kernfs_name: at("kernfs_node", "name"),
        kernfs_parent: at("kernfs_node", "parent|__parent"),
        mm_rss: resident_counter(types).unwrap_or(ABSENT),
        mm_rss_stride: resident_stride(types),
        oom_memcg: at("oom_control", "memcg"),
        oom_chosen: at("oom_control", "chosen"),
        siginfo_code: at("kernel_siginfo", "si_code"),
        siginfo_addr: at("kernel_siginfo", "_sifields._sigfault._addr"),
        skb_cb: at("sk_buff", "cb"),
        skb_head: at("sk_buff", "head"),
        skb_network_header: at("sk_buff", "network_header"),
        skb_transport_header: at("sk_buff", "transport_header"),
        skb_dev: at("sk_buff", "dev"),
        netdev_net: at("net_device", "nd_net.net"),
        exterr_errno: at("sock_exterr_skb", "ee.ee_errno"),
        exterr_origin: at("sock_exterr_skb", "ee.ee_origin"),
        exterr_type: at("sock_exterr_skb", "ee.ee_type"),
        exterr_code: at("sock_exterr_skb", "ee.ee_code"),
        binprm_file: at("linux_binprm", "file"),
        file_inode: at("file", "f_inode"),
        inode_number: at("inode", "i_ino"),
        inode_sb: at("inode", "i_sb"),
        sb_dev: at("super_block", "s_dev"),
        mark_victim_is_task: u16::from(types.tracepoint_argument_is_pointer("mark_victim", 0) == Some(true)),
    }
}

/// A socket is allocated together with its inode, in front of it.
fn socket_inode(types: &KernelTypes) -> Option<u16> {
    let inode = types.offset("socket_alloc", "vfs_inode")? + types.offset("inode", "i_ino")?;
    inode.checked_sub(types.offset("socket_alloc", "socket")?)
}

/// Since 6.2 `rss_stat` is an array of `percpu_counter`, whose `count` lags by at most a batch; before it was a
/// struct of plain counters.
fn resident_counter(types: &KernelTypes) -> Option<u16> {
    let plain = types.offset("mm_rss_stat", "count");
    Some(types.offset("mm_struct", "rss_stat")? + plain.or_else(|| types.offset("percpu_counter", "count"))?)
}

fn resident_stride(types: &KernelTypes) -> u16 {
    match types.offset("mm_rss_stat", "count") {
        Some(_) => POINTER,
        None => types.size("percpu_counter").unwrap_or(ABSENT),
    }
}
