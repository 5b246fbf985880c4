//! Where in a function a uprobe costs least: at the first instruction that the kernel emulates.
//!
//! A probed instruction that it cannot emulate is copied aside and single-stepped, which costs a second trap: in a virtual machine
//! some 15 µs beside 1.2 µs. Builds with `-fcf-protection` (Debian 13, Ubuntu, Fedora, RHEL) begin every function with
//! `endbr64`, which is such a one. What stands before the chosen place must leave the arguments where the ABI put them.

use iced_x86::{
    Decoder, DecoderOptions, FlowControl, Instruction, InstructionInfoFactory, Mnemonic, OpAccess, Register,
};
use object::Architecture;

/// Instructions that are looked at from a function's beginning.
const STEPS: usize = 8;
/// So much of a function is searched for jumps back to its beginning.
const BODY: usize = 64 * 1024;

/// A place in a function at which a uprobe sees its arguments.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ProbePoint {
    /// Offset in the file of the function.
    pub function: u64,
    /// Bytes behind its beginning.
    pub skip: u64,
    /// Whether the kernel emulates the instruction there: one trap a hit; else it takes two.
    pub emulated: bool,
}

impl ProbePoint {
    /// Offset in the file of the place itself.
    pub fn offset(self) -> u64 {
        self.function.saturating_add(self.skip)
    }
}

/// The best place in a function with this code, which begins at `function` in the file, for a program that reads the first so
/// many of its arguments.
pub(super) fn probe_point(
    architecture: Architecture,
    function: u64,
    arguments: usize,
    code: &[u8],
) -> ProbePoint {
    let at_entry = ProbePoint { function, skip: 0, emulated: false };
    if architecture != Architecture::X86_64 {
        return at_entry;
    }
    let Some(skip) = first_emulated(arguments, code) else { return at_entry };
    // Whoever jumps there, or into what is stepped over, would be counted as a call.
    match skip > 0 && is_jumped_to(code, skip) {
        true => at_entry,
        false => ProbePoint { skip, emulated: true, ..at_entry },
    }
}

/// Where the x86-64 System V ABI passes a function's arguments.
const ARGUMENTS: [Register; 6] =
    [Register::RDI, Register::RSI, Register::RDX, Register::RCX, Register::R8, Register::R9];

/// Where the first instruction is that the kernel emulates, if none before it touches an argument.
fn first_emulated(arguments: usize, code: &[u8]) -> Option<u64> {
    let mut decoder = Decoder::with_ip(64, code, 0, DecoderOptions::NONE);
    let mut facts = InstructionInfoFactory::new();
    for _ in 0..STEPS {
        let instruction = decoder.can_decode().then(|| decoder.decode())?;
        if instruction.is_invalid() {
            return None;
        }
        let at = instruction.ip();
        let bytes = code.get(usize::try_from(at).ok()?..usize::try_from(instruction.next_ip()).ok()?)?;
        if is_emulated(bytes) {
            return Some(at);
        }
        if !leaves_arguments(arguments, &instruction, &mut facts) {
            return None;
        }
    }
    None
}

/// What `arch/x86/kernel/uprobes.c` emulates since before 5.10, by its bytes: `nop`, `push`, `call`, `jmp` and the conditional
/// jumps, without prefixes.
fn is_emulated(bytes: &[u8]) -> bool {
    matches!(
        bytes,
        [0x90]
            | [0x50..=0x57]
            | [0x41, 0x50..=0x57]
            | [0xe8 | 0xe9, ..]
            | [0x70..=0x7f | 0xeb, _]
            | [0x0f, 0x80..=0x8f, ..]
    )
}

/// Whether the arguments, the stack and all memory are as before behind an instruction, and the next one follows.
fn leaves_arguments(arguments: usize, instruction: &Instruction, facts: &mut InstructionInfoFactory) -> bool {
    let is_kept =
        |register| register == Register::RSP || ARGUMENTS.iter().take(arguments).any(|one| *one == register);
    if instruction.mnemonic() == Mnemonic::Endbr64 {
        return true;
    }
    let writes = |access: OpAccess| {
        !matches!(access, OpAccess::None | OpAccess::Read | OpAccess::CondRead | OpAccess::NoMemAccess)
    };
    let info = facts.info(instruction);
    let registers = info.used_registers().iter();
    let mut written =
        registers.filter(|used| writes(used.access())).map(|used| used.register().full_register());
    instruction.flow_control() == FlowControl::Next
        && !written.any(is_kept)
        && !info.used_memory().iter().any(|used| writes(used.access()))
}

/// Whether a jump within the function ends behind its entry and not behind `skip`.
fn is_jumped_to(code: &[u8], skip: u64) -> bool {
    let body = &code[..code.len().min(BODY)];
    Decoder::with_ip(64, body, 0, DecoderOptions::NONE).iter().any(|instruction| {
        let jumps = matches!(
            instruction.flow_control(),
            FlowControl::ConditionalBranch | FlowControl::UnconditionalBranch
        );
        jumps && (1..=skip).contains(&instruction.near_branch_target())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn point(code: &[u8]) -> (u64, bool) {
        let found = probe_point(Architecture::X86_64, 0x1000, 6, code);
        assert_eq!(found.offset(), 0x1000 + found.skip);
        (found.skip, found.emulated)
    }

    const ENDBR64: [u8; 4] = [0xf3, 0x0f, 0x1e, 0xfa];

    #[test]
    fn a_push_is_emulated_at_once_and_behind_endbr64() {
        assert_eq!(point(&[0x55, 0xc3]), (0, true));
        assert_eq!(point(&[0x41, 0x57, 0xc3]), (0, true));
        assert_eq!(point(&[&ENDBR64[..], &[0x41, 0x57, 0xc3]].concat()), (4, true));
    }

    #[test]
    fn what_leaves_the_arguments_is_stepped_over() {
        // cmp esi, 0x68; jne
        assert_eq!(point(&[0x83, 0xfe, 0x68, 0x75, 0x10]), (3, true));
        // endbr64; mov rax, [rdi+0x50]; test rax, rax; je
        let code = [&ENDBR64[..], &[0x48, 0x8b, 0x47, 0x50, 0x48, 0x85, 0xc0, 0x74, 0x10]].concat();
        assert_eq!(point(&code), (11, true));
    }

    #[test]
    fn what_changes_an_argument_memory_or_the_stack_is_not() {
        for code in [
            // mov edi, esi; push rbp
            &[0x89, 0xf7, 0x55][..],
            // mov dl, 1; push rbp
            &[0xb2, 0x01, 0x55],
            // sub rsp, 8; push rbp
            &[0x48, 0x83, 0xec, 0x08, 0x55],
            // mov [rdi], rax; push rbp
            &[0x48, 0x89, 0x07, 0x55],
            // rep movsb; push rbp
            &[0xf3, 0xa4, 0x55],
            // ret; push rbp
            &[0xc3, 0x55],
            // xor eax, eax, and the end
            &[0x31, 0xc0],
            // a cut instruction, none, and what is no instruction
            &[0x48, 0x8b],
            &[],
            &[0x06, 0x55],
        ] {
            assert_eq!(point(code), (0, false), "{code:x?}");
        }
    }

    /// mov r8, rdi; push rbp
    #[test]
    fn a_register_that_holds_no_argument_is_free() {
        let code = [0x49, 0x89, 0xf8, 0x55];
        let skip = |arguments| probe_point(Architecture::X86_64, 0, arguments, &code).skip;
        assert_eq!((skip(4), skip(5)), (3, 0));
    }

    #[test]
    fn a_place_that_a_loop_returns_to_is_not_taken() {
        // xor eax, eax; push rbp; jmp to the push
        assert_eq!(point(&[0x31, 0xc0, 0x55, 0xeb, 0xfd]), (0, false));
        // The same, to what follows.
        assert_eq!(point(&[0x31, 0xc0, 0x55, 0x90, 0xeb, 0xfd]), (2, true));
    }

    #[test]
    fn other_processors_are_probed_at_the_entry() {
        let found = probe_point(Architecture::Aarch64, 8, 6, &[0x55]);
        assert_eq!(found, ProbePoint { function: 8, skip: 0, emulated: false });
    }
}
