//! Encodings of numbers and bytes in password hashes.

use base64::Engine;
use base64::alphabet::BCRYPT;
use base64::engine::general_purpose::{GeneralPurpose, NO_PAD, STANDARD, STANDARD_NO_PAD};

/// Base64 of bcrypt. Some libraries set the bits that the last character has too many.
const BCRYPT_BASE64: GeneralPurpose =
    GeneralPurpose::new(&BCRYPT, NO_PAD.with_decode_allow_trailing_bits(true));

/// Parses a decimal number without a sign or leading zeros.
pub(super) fn decimal(text: &str) -> Option<u32> {
    let is_canonical =
        text.bytes().all(|byte| byte.is_ascii_digit()) && (text == "0" || !text.starts_with('0'));
    is_canonical.then(|| text.parse().ok()).flatten()
}

/// Returns the binary logarithm of a power of two.
pub(super) fn log2(number: u32) -> Option<u32> {
    number.is_power_of_two().then(|| number.ilog2())
}

/// Parses a list such as `m=65536,t=3,p=4`, with exactly these names in this order.
pub(super) fn parameters<const N: usize>(text: &str, names: [&str; N]) -> Option<[u32; N]> {
    let mut values = [0; N];
    let mut rest = text.split(',');
    for (value, name) in values.iter_mut().zip(names) {
        *value = decimal(rest.next()?.strip_prefix(name)?.strip_prefix('=')?)?;
    }
    rest.next().is_none().then_some(values)
}

/// Decodes base64 without padding, also in the variant of passlib that has `.` in place of `+`.
pub(super) fn base64(text: &str) -> Option<Vec<u8>> {
    STANDARD_NO_PAD.decode(text.replace('.', "+")).ok()
}

/// Decodes base64 with padding.
pub(super) fn padded_base64(text: &str) -> Option<Vec<u8>> {
    STANDARD.decode(text).ok()
}

/// Decodes the base64 of bcrypt.
pub(super) fn bcrypt_base64(text: &str) -> Option<Vec<u8>> {
    BCRYPT_BASE64.decode(text).ok()
}

/// Decodes hexadecimal digits.
pub(super) fn hex(text: &str) -> Option<Vec<u8>> {
    let is_hex = text.len().is_multiple_of(2) && text.bytes().all(|byte| byte.is_ascii_hexdigit());
    let pair = |start| u8::from_str_radix(text.get(start..start + 2)?, 16).ok();
    is_hex.then(|| (0..text.len()).step_by(2).map(pair).collect()).flatten()
}

/// Encodes bytes as base64 without padding.
pub(super) fn to_base64(bytes: &[u8]) -> String {
    STANDARD_NO_PAD.encode(bytes)
}

/// Encodes bytes as base64 with padding.
pub(super) fn to_padded_base64(bytes: &[u8]) -> String {
    STANDARD.encode(bytes)
}

/// Encodes bytes as lower-case hexadecimal digits.
pub(super) fn to_hex(bytes: &[u8]) -> String {
    let digits = bytes.iter().flat_map(|byte| [byte >> 4, byte & 15]);
    digits.filter_map(|digit| char::from_digit(digit.into(), 16)).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn numbers_are_canonical() {
        assert_eq!(decimal("0"), Some(0));
        assert_eq!(decimal("4294967295"), Some(u32::MAX));
        for text in ["", "+1", "-1", "01", " 1", "4294967296", "1_0", "١"] {
            assert_eq!(decimal(text), None, "{text}");
        }
    }

    #[test]
    fn parameters_have_names_and_order() {
        let parse = |text| parameters(text, ["ln", "r", "p"]);
        assert_eq!(parse("ln=16,r=8,p=1"), Some([16, 8, 1]));
        for text in ["", "ln=16,r=8", "ln=16,p=1,r=8", "ln=16,r=8,p=1,x=1", "ln=16,r=8,p1"] {
            assert_eq!(parse(text), None, "{text}");
        }
    }

    proptest! {
        #[test]
        fn bytes_round_trip(bytes in prop::collection::vec(any::<u8>(), 0..80)) {
            prop_assert_eq!(hex(&to_hex(&bytes)), Some(bytes.clone()));
            prop_assert_eq!(base64(&to_base64(&bytes)), Some(bytes.clone()));
            prop_assert_eq!(base64(&to_base64(&bytes).replace('+', ".")), Some(bytes.clone()));
            prop_assert_eq!(padded_base64(&to_padded_base64(&bytes)), Some(bytes));
        }

        #[test]
        fn decoders_never_panic(text in any::<String>()) {
            let _ = (hex(&text), base64(&text), padded_base64(&text), bcrypt_base64(&text));
            let _ = parameters(&text, ["i", "l"]);
        }
    }
}
