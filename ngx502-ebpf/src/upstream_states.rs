//! nginx's account of the attempts of a request: the array `r->upstream_states`.

use ngx502_common::{
    event::{Request, STATES_MAX, State},
    layout::{ABSENT, NginxLayout},
};

use crate::{state::StateBlock, user};

/// `ngx_array_t` of a request's states: elements, count, element size.
#[inline(always)]
pub fn of_request(request: u64, layout: &NginxLayout) -> Option<(u64, u64, u64)> {
    of_array(user::word(request + u64::from(layout.upstream_states)))
}

#[inline(always)]
pub fn of_array(array: u64) -> Option<(u64, u64, u64)> {
    if array == 0 {
        return None;
    }
    let [elements, count, size] = user::read::<[u64; 3]>(array)?;
    (count < 1 << 16 && size < 1 << 10).then_some((elements, count, size))
}

/// Copies the last states of the array at an address into a record.
#[inline(never)]
pub fn copy_last(record: &mut Request, array: u64, block: &mut StateBlock, layout: &NginxLayout) {
    record.states_total = 0;
    record.states_len = 0;
    let Some((elements, count, size)) = of_array(array) else { return };
    record.states_total = count as u32;
    let first = if count > STATES_MAX as u64 { count - STATES_MAX as u64 } else { 0 };
    for i in 0..STATES_MAX {
        if first + i as u64 >= count {
            break;
        }
        copy(&mut record.states[i], elements + (first + i as u64) * size, size, block, layout);
        record.states_len = i as u32 + 1;
    }
}

/// Copies one `ngx_http_upstream_state_t`: status, response, connect and header time are neighbours everywhere.
#[inline(never)]
pub fn copy(state: &mut State, at: u64, size: u64, block: &mut StateBlock, layout: &NginxLayout) {
    let readable = block.load_struct(at, size);
    let milliseconds = |place: u16| {
        if readable { block.word(layout.state_status + place) as i64 } else { -1 }
    };
    state.status = if readable { block.word(layout.state_status) as u16 } else { 0 };
    state.response_ms = milliseconds(8);
    state.connect_ms = milliseconds(16);
    state.header_ms = milliseconds(24);
    state.bytes_received = if readable { block.word(layout.state_bytes_received) as i64 } else { -1 };
    state.bytes_sent = match layout.state_bytes_sent {
        offset if offset != ABSENT && readable => block.word(offset) as i64,
        _ => -1,
    };
    let name = if readable { block.word(layout.state_peer) } else { 0 };
    (state.peer_len, state.peer_unread) = user::copy_peer_name(&mut state.peer, name);
    state.reserved = [0; 4];
}
