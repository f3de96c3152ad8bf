//! Decimals as the resources write them: strings like `"1.85"`, compared exactly.

use std::str::FromStr;

const FRACTION_DIGITS: usize = 9;

/// A decimal with at most nine digits before and after the point.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Decimal {
    billionths: i64,
}

/// Why a string is not a decimal.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{found}` is not a decimal: write a string like \"1.85\", with at most nine digits before and after the point"
)]
pub struct DecimalError {
    /// What was written.
    pub found: String,
}

impl Decimal {
    /// Nothing.
    pub const ZERO: Self = Self { billionths: 0 };
    /// Two.
    pub const TWO: Self = Self { billionths: 2_000_000_000 };
}

impl FromStr for Decimal {
    type Err = DecimalError;

    fn from_str(text: &str) -> Result<Self, DecimalError> {
        let refused = || DecimalError { found: text.to_owned() };
        let (sign, digits) = match text.strip_prefix('-') {
            Some(rest) => (-1, rest),
            None => (1, text),
        };
        let (whole, fraction) =
            digits.split_once('.').map_or((digits, None), |(whole, fraction)| (whole, Some(fraction)));
        let is_part =
            |part: &str| (1..=FRACTION_DIGITS).contains(&part.len()) && part.bytes().all(|byte| byte.is_ascii_digit());
        if !is_part(whole) || fraction.is_some_and(|fraction| !is_part(fraction)) {
            return Err(refused());
        }
        let padded = format!("{whole}{:0<FRACTION_DIGITS$}", fraction.unwrap_or_default());
        padded.parse::<i64>().map(|billionths| Self { billionths: sign * billionths }).map_err(|_| refused())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn decimals_are_compared_exactly() {
        let decimal = |text: &str| text.parse::<Decimal>().unwrap();
        assert!(decimal("1.3") == decimal("1.300000000"));
        assert!(decimal("1.299999999") < decimal("1.3"));
        assert!(decimal("10") > decimal("9.999"));
        assert!(decimal("-0.5") < decimal("0"));
        assert!(decimal("0.0") == Decimal::ZERO && decimal("2.0") == Decimal::TWO);
        assert!(decimal("999999999.999999999") > decimal("999999999.999999998"));
    }

    #[test]
    fn other_spellings_are_refused() {
        for text in ["", "-", ".", "1.", ".5", "1e3", "+1", "NaN", "1.0000000000", "1234567890", "1,5", "--1", "1.-5"] {
            assert!(text.parse::<Decimal>().is_err(), "{text}");
        }
    }
}
