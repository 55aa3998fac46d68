//! Numbers as people write them.

use std::str::FromStr;

/// A whole number from 1 on.
pub(super) fn positive<T: FromStr + PartialEq + From<u8>>(text: &str) -> Result<T, String> {
    let number = text.parse().ok().filter(|number| *number != T::from(0));
    number.ok_or_else(|| "write it as a whole number from 1 on, like 20".to_owned())
}

#[cfg(test)]
mod tests {
    use super::positive;

    #[test]
    fn numbers() {
        assert_eq!(positive("20"), Ok(20_u32));
        for odd in ["0", "-1", "1k", "", "1.5", "4294967296"] {
            assert!(positive::<u32>(odd).is_err(), "{odd}");
        }
    }
}
