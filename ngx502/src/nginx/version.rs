//! Which nginx a binary is: the version line that `nginx -v` prints, and the module signature, both found as literals
//! in its read-only data.

use std::fmt;

use bstr::{BString, ByteSlice as _};

/// The longest product-and-number text that is believed.
const MAX_TEXT: usize = 64;

/// How the signature of a 64-bit build begins.
const SIZES: &[u8] = b"8,4,8,";

/// How many flags follow in nginx (Angie has one more in later versions).
const FLAGS: usize = 34;

/// The three numbers of a release.
pub type Release = (u16, u16, u16);

/// nginx or one of the servers that were made from it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Product {
    /// A name that is not known: a build with its server name changed.
    Other,
    /// nginx itself.
    Nginx,
    /// OpenResty: nginx with patches and Lua.
    OpenResty,
    /// freenginx.
    Freenginx,
    /// Angie, by Web Server LLC.
    Angie,
    /// Tengine, by Alibaba.
    Tengine,
}

impl Product {
    fn from_name(name: &[u8]) -> Self {
        match name.to_ascii_lowercase().as_slice() {
            b"nginx" => Self::Nginx,
            b"openresty" => Self::OpenResty,
            b"freenginx" => Self::Freenginx,
            b"angie" => Self::Angie,
            b"tengine" => Self::Tengine,
            _ => Self::Other,
        }
    }
}

/// What a build calls itself, as `nginx -v` shows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Version {
    /// Whose release it is.
    pub product: Product,
    /// The product's own number: for OpenResty the nginx release that it patches, for Angie and Tengine Angie's and
    /// Tengine's.
    pub number: Release,
    /// The whole text, such as `nginx/1.22.1` or `openresty/1.27.1.2`.
    pub text: BString,
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.text.fmt(f)
    }
}

impl Version {
    /// Finds the version in read-only data: the literal `nginx version: nginx/1.22.1` and its like.
    ///
    /// Forks hold nginx's line beside their own; the fork's own wins.
    pub fn find(data: &[u8]) -> Option<Self> {
        const LABEL: &[u8] = b" version: ";
        data.find_iter(LABEL)
            .filter_map(|at| {
                let labelled_nginx = data[..at].ends_with(b"nginx");
                Self::parse(&data[at + LABEL.len()..])
                    .filter(|version| labelled_nginx || version.product != Product::Other)
            })
            .max_by_key(|version| version.product)
    }

    /// Parses `product/1.2.3…` at the start of `text`.
    fn parse(text: &[u8]) -> Option<Self> {
        let text = &text[..text.len().min(MAX_TEXT)];
        let text = &text[..text.iter().position(|byte| !byte.is_ascii_graphic())?];
        let (name, number) = text.split_once_str(b"/")?;
        let mut parts = number.split(|byte| *byte == b'.').map(leading_number);
        let number = (parts.next()??, parts.next()??, parts.next().flatten().unwrap_or(0));
        Some(Self { product: Product::from_name(name), number, text: text.into() })
    }
}

/// The number that a part of a version starts with: `1` of `1-r0`.
fn leading_number(part: &[u8]) -> Option<u16> {
    let digits = part.iter().take_while(|byte| byte.is_ascii_digit()).count();
    part[..digits].to_str().ok()?.parse().ok()
}

/// `NGX_MODULE_SIGNATURE`: the sizes and options of a build that dynamic modules must share with it, such as
/// `8,4,8,0011111111010111001111111111111111`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Signature(pub(super) BString);

impl Signature {
    /// Finds the signature of a 64-bit build in read-only data.
    pub fn find(data: &[u8]) -> Option<Self> {
        data.find_iter(SIZES).find_map(|at| {
            let rest = &data[at + SIZES.len()..];
            let flags = rest.iter().take_while(|byte| matches!(byte, b'0' | b'1')).count();
            // A C literal ends with NUL; a list of signatures, as in our own tests, is none.
            (flags >= FLAGS && rest.get(flags) == Some(&0))
                .then(|| Self(data[at..at + SIZES.len() + flags].into()))
        })
    }

    /// Flag `n`, counted from 1 as in nginx's `ngx_module.h`; `false` beyond the end.
    pub fn flag(&self, n: usize) -> bool {
        n.checked_sub(1).and_then(|index| self.0.get(SIZES.len() + index)) == Some(&b'1')
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(data: &[u8]) -> Option<(Product, (u16, u16, u16), String)> {
        Version::find(data).map(|version| (version.product, version.number, version.to_string()))
    }

    #[test]
    fn reads_the_version_lines_of_nginx_and_its_forks() {
        let expect = |product, number, text: &str| Some((product, number, text.to_owned()));
        assert_eq!(
            found(b"\0nginx version: nginx/1.24.0 (Ubuntu)\n\0"),
            expect(Product::Nginx, (1, 24, 0), "nginx/1.24.0")
        );
        assert_eq!(
            found(b"nginx version: openresty/1.27.1.2\n\0"),
            expect(Product::OpenResty, (1, 27, 1), "openresty/1.27.1.2")
        );
        assert_eq!(
            found(b"Angie version: Angie/1.12.1\n\0built\0nginx version: nginx/1.31.2\n\0"),
            expect(Product::Angie, (1, 12, 1), "Angie/1.12.1")
        );
        assert_eq!(
            found(b"freenginx version: freenginx/1.27.2\n\0"),
            expect(Product::Freenginx, (1, 27, 2), "freenginx/1.27.2")
        );
        assert_eq!(
            found(b"nginx version: nginx/1.24.0\n\0Tengine version: Tengine/3.1.0\n\0"),
            expect(Product::Tengine, (3, 1, 0), "Tengine/3.1.0")
        );
        assert_eq!(found(b"nginx version: mine/9.8\n\0"), expect(Product::Other, (9, 8, 0), "mine/9.8"));
    }

    #[test]
    fn other_programs_have_no_version() {
        assert_eq!(found(b""), None);
        assert_eq!(found(b"Firefox version: Mozilla/5.0.1\n\0"), None);
        assert_eq!(found(b"nginx version: %s\n\0"), None);
        assert_eq!(found(b"nginx version: nginx/99999999.1.1\n\0"), None);
        assert_eq!(found(b"nginx version: nginx/1.2"), None, "cut before its end");
    }

    #[test]
    fn signature_needs_its_flags() {
        // Put together here, so that this test's own executable does not carry nginx's signature.
        let expected = format!("8,4,8,{}", "00111111110101110111111111111111111");
        let text = format!("8,4,8,01\0Angie,{expected}\0");
        let signature = Signature::find(text.as_bytes()).unwrap();
        assert_eq!(signature.0, expected);
        assert_eq!([0, 1, 2, 3, 35, 36].map(|n| signature.flag(n)), [false, false, false, true, true, false]);
        assert_eq!(Signature::find(b"8,4,8,0011"), None);
    }
}
