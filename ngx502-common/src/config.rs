//! What user space passes to the BPF programs before they are loaded (read-only globals) and while they run (maps).

/// An offset that this kernel does not have. Reads through it yield nothing, and the verifier prunes their branch.
pub const ABSENT: u16 = u16::MAX;

macro_rules! kernel_layout {
    ($($(#[$doc:meta])* $field:ident,)+) => {
        /// Byte offsets of kernel struct members and arities of tracepoints, from the running kernel's BTF.
        /// [`ABSENT`] where this kernel has none.
        #[repr(C)]
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub struct KernelLayout { $($(#[$doc])* pub $field: u16,)+ }

        impl KernelLayout {
            /// Everything absent.
            pub const NONE: Self = Self { $($field: ABSENT,)+ };
        }
    };
}

kernel_layout! {
    /// `sock.__sk_common.skc_family`.
    skc_family,
    /// `sock.__sk_common.skc_state`.
    skc_state,
    /// `sock.__sk_common.skc_dport`, network byte order.
    skc_dport,
    /// `sock.__sk_common.skc_daddr`.
    skc_daddr,
    /// `sock.__sk_common.skc_rcv_saddr`.
    skc_rcv_saddr,
    /// `sock.__sk_common.skc_v6_daddr`; absent without IPv6.
    skc_v6_daddr,
    /// `sock.__sk_common.skc_v6_rcv_saddr`; absent without IPv6.
    skc_v6_rcv_saddr,
    /// `sock.__sk_common.skc_net`.
    skc_net,
    /// `sock.__sk_common.skc_num`: the local port, in the host's byte order.
    skc_num,
    /// `net.ns.inum`.
    net_inum,
    /// `sock.sk_err`.
    sk_err,
    /// `sock.sk_socket`.
    sk_socket,
    /// `sock.sk_type`.
    sk_type,
    /// `sock.sk_ack_backlog`.
    sk_ack_backlog,
    /// `sock.sk_max_ack_backlog`.
    sk_max_ack_backlog,
    /// `sock.sk_receive_queue.qlen`.
    sk_receive_qlen,
    /// `sock.sk_error_queue.prev`: its newest packet.
    sk_error_queue_prev,
    /// `inet_sock.inet_sport`, network byte order.
    inet_sport,
    /// `tcp_sock.bytes_received`.
    tcp_bytes_received,
    /// `tcp_sock.bytes_acked`.
    tcp_bytes_acked,
    /// `tcp_sock.rcv_nxt`.
    tcp_rcv_nxt,
    /// `tcp_sock.snd_una`.
    tcp_snd_una,
    /// `tcp_sock.write_seq`.
    tcp_write_seq,
    /// `tcp_sock.copied_seq`.
    tcp_copied_seq,
    /// `tcp_sock.snd_wnd`.
    tcp_snd_wnd,
    /// `unix_sock.peer`.
    unix_peer,
    /// `unix_sock.addr`.
    unix_addr,
    /// `unix_address.len`.
    unix_address_len,
    /// `unix_address.name`, a `sockaddr_un`.
    unix_address_name,
    /// `socket.file`.
    socket_file,
    /// `socket.sk`.
    socket_sk,
    /// `socket_alloc.vfs_inode.i_ino`, counted from its `socket`.
    socket_inode,
    /// `file.private_data`.
    file_private_data,
    /// `task_struct.files`.
    task_files,
    /// `files_struct.fdt`.
    files_fdt,
    /// `fdtable.fd`.
    fdtable_fd,
    /// `fdtable.max_fds`.
    fdtable_max_fds,
    /// `task_struct.flags`.
    task_flags,
    /// `task_struct.exit_code`.
    task_exit_code,
    /// `task_struct.signal`.
    task_signal,
    /// `task_struct.tgid`.
    task_tgid,
    /// `task_struct.group_leader`.
    task_group_leader,
    /// `task_struct.real_parent`.
    task_real_parent,
    /// `task_struct.comm`.
    task_comm,
    /// `task_struct.start_boottime`.
    task_start,
    /// `task_struct.cgroups`.
    task_cgroups,
    /// `task_struct.mm`.
    task_mm,
    /// `task_struct.nsproxy`
    task_nsproxy,
    /// `nsproxy.mnt_ns`
    nsproxy_mnt_ns,
    /// `mnt_namespace.ns.inum`
    mnt_namespace_inum,
    /// `signal_struct.live`.
    signal_live,
    /// `signal_struct.group_exit_code`.
    signal_group_exit_code,
    /// `signal_struct.oom_mm`: set once the process is an OOM victim.
    signal_oom_mm,
    /// `css_set.subsys` plus the slot of the memory controller.
    css_set_memory,
    /// `cgroup_subsys_state.cgroup`.
    css_cgroup,
    /// `cgroup_subsys_state.parent`.
    css_parent,
    /// `mem_cgroup.memory.max`, in pages.
    memcg_max,
    /// `mem_cgroup.memory.usage`, in pages.
    memcg_usage,
    /// `cgroup.kn`.
    cgroup_kn,
    /// `kernfs_node.name`.
    kernfs_name,
    /// `kernfs_node.parent` or `__parent`.
    kernfs_parent,
    /// `mm_struct.rss_stat`'s first counter.
    mm_rss,
    /// Distance between two counters of `rss_stat`.
    mm_rss_stride,
    /// `oom_control.memcg`.
    oom_memcg,
    /// `oom_control.chosen`.
    oom_chosen,
    /// `kernel_siginfo.si_code`.
    siginfo_code,
    /// `kernel_siginfo._sifields._sigfault._addr`.
    siginfo_addr,
    /// `sk_buff.cb`.
    skb_cb,
    /// `sk_buff.head`.
    skb_head,
    /// `sk_buff.network_header`, a distance from `head`.
    skb_network_header,
    /// `sk_buff.transport_header`, likewise.
    skb_transport_header,
    /// `sk_buff.dev`.
    skb_dev,
    /// `net_device.nd_net.net`.
    netdev_net,
    /// `sock_exterr_skb.ee.ee_errno`.
    exterr_errno,
    /// `sock_exterr_skb.ee.ee_origin`.
    exterr_origin,
    /// `sock_exterr_skb.ee.ee_type`.
    exterr_type,
    /// `sock_exterr_skb.ee.ee_code`.
    exterr_code,
    /// 1 when `mark_victim`'s argument is a task (not a pid).
    mark_victim_is_task,
    /// `linux_binprm.file`.
    binprm_file,
    /// `file.f_inode`.
    file_inode,
    /// `inode.i_ino`.
    inode_number,
    /// `inode.i_sb`.
    inode_sb,
    /// `super_block.s_dev`.
    sb_dev,
}

#[cfg(feature = "user")]
// SAFETY: `repr(C)`, only u16 fields, hence no padding; any bytes are a valid value.
unsafe impl aya::Pod for KernelLayout {}

/// A traced nginx process, by its thread-group id in the map `TRACED`.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Traced {
    /// Which entry of the map `LAYOUTS` describes its binary.
    pub layout: u32,
    /// 1: the error log of this process hides the text of failures, so that more has to be kept.
    pub log_hides: u32,
    /// Where the process has the read-only part of its executable: texts there need not be copied, since user space
    /// knows them from the file. Both 0 when that is not known.
    pub texts_from: u64,
    /// The address behind its last byte.
    pub texts_to: u64,
    /// Where it has `auth_request`'s complaint, which comes of a request without an upstream; 0 when that is not known.
    pub auth_text: u64,
}

impl Traced {
    /// Whether user space can read what stands at an address from the executable's file.
    #[inline(always)]
    pub fn knows_text(&self, address: u64) -> bool {
        self.texts_from <= address && address < self.texts_to
    }
}

#[cfg(feature = "user")]
// SAFETY: `repr(C)`, two u32 and three u64 fields, hence no padding; any bytes are a valid value.
unsafe impl aya::Pod for Traced {}

/// A file as the kernel knows it: the key of the map `BINARIES`.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FileKey {
    /// Inode number.
    pub inode: u64,
    /// Device in the kernel's own form: the minor number in the low 20 bits.
    pub device: u64,
}

impl FileKey {
    /// The key of a file with this device number and inode, as `stat` gives them.
    pub fn of(device_major: u32, device_minor: u32, inode: u64) -> Self {
        Self { inode, device: u64::from(device_major) << 20 | u64::from(device_minor) }
    }
}

#[cfg(feature = "user")]
// SAFETY: `repr(C)`, two u64 fields, hence no padding; any bytes are a valid value.
unsafe impl aya::Pod for FileKey {}

/// An nginx executable with its probes, by its file in the map `BINARIES`.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KnownBinary {
    /// How a process that executes it is traced.
    pub traced: Traced,
    /// 1: whoever executes it; 0: only who was traced before, as the old master's child in an upgrade.
    pub anyone: u32,
    /// Zero.
    pub reserved: u32,
}

#[cfg(feature = "user")]
// SAFETY: `repr(C)`, a `Traced` and two u32, hence no padding; any bytes are a valid value.
unsafe impl aya::Pod for KnownBinary {}

/// Slots that say which sockets may be of interest; a power of two.
pub const SOCKET_SLOTS_LEN: usize = 65_536;
/// Slots that say which processes may be traced; a power of two.
pub const WORKER_SLOTS_LEN: u32 = 16_384;

/// The slot of a process.
#[inline(always)]
pub fn worker_slot(tgid: u32) -> u32 {
    tgid & (WORKER_SLOTS_LEN - 1)
}

/// What was ever seen in this trace; index of the array `SEEN`.
pub mod seen {
    /// An AF_UNIX connection to an upstream.
    pub const UNIX: u32 = 0;
    /// A traced nginx whose error log hides the text of failures.
    pub const HIDING_LOG: u32 = 1;
    /// A connection of a process that holds a listener.
    pub const ONWARD: u32 = 2;
    /// How many of these there are.
    pub const COUNT: u32 = 3;
}

/// Why a record was lost; index of the per-CPU array `LOST`.
pub mod loss {
    /// The ring buffer was full.
    pub const RING_FULL: u32 = 0;
    /// A connection could not be remembered, since the map was full.
    pub const CONNECTIONS_FULL: u32 = 1;
    /// nginx spoke of a request, and the memory that leads to it could not be read at that moment.
    pub const UNREADABLE: u32 = 2;
    /// There was no buffer for a worker's thread to build a record in.
    pub const NO_BUFFER: u32 = 3;
    /// How many reasons there are.
    pub const COUNT: u32 = 4;
    /// The reasons in words, in order.
    pub const NAMES: [&str; COUNT as usize] = [
        "ring buffer full",
        "connection table full",
        "nginx's memory not readable",
        "no buffer for a record",
    ];
}
