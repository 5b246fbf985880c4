//! Lines of `/proc/PID/status`: a label, then numbers.

use bstr::ByteSlice as _;

/// The decimal numbers of a line; none where the line is missing.
pub(crate) fn numbers<'a>(status: &'a [u8], label: &str) -> impl Iterator<Item = u32> + use<'a> {
    line(status, label).fields().filter_map(|field| field.to_str().ok()?.parse().ok())
}

/// The hexadecimal mask of a line, such as `CapEff:`; 0 where it is missing.
pub(crate) fn mask(status: &[u8], label: &str) -> u64 {
    let digits = line(status, label).trim().to_str().ok();
    digits.and_then(|digits| u64::from_str_radix(digits, 16).ok()).unwrap_or(0)
}

fn line<'a>(status: &'a [u8], label: &str) -> &'a [u8] {
    status.lines().find_map(|line| line.strip_prefix(label.as_bytes())).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_and_masks_are_read_from_their_line_only() {
        let status = b"Name:\tUid: 7\nUid:\t1\t2\tx\t4\nGroups:\t\nCapEff:\t000001ffffffffff\n";
        assert_eq!(numbers(status, "Uid:").collect::<Vec<_>>(), [1, 2, 4]);
        assert_eq!(numbers(status, "Groups:").count(), 0);
        assert_eq!((mask(status, "CapEff:"), mask(status, "CapBnd:")), (0x1ff_ffff_ffff, 0));
    }
}
