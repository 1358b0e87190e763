//! Sizes as people write them: `500MB`, `2GiB`.

use std::fmt;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// A number of bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Size(pub u64);

/// The units, the largest first; at the same size none stands behind a smaller one.
const UNITS: [(&str, u64); 9] = [
    ("TiB", 1 << 40),
    ("TB", 1_000_000_000_000),
    ("GiB", 1 << 30),
    ("GB", 1_000_000_000),
    ("MiB", 1 << 20),
    ("MB", 1_000_000),
    ("KiB", 1 << 10),
    ("KB", 1_000),
    ("B", 1),
];

impl Size {
    /// Reads a whole or decimal number with its unit.
    fn parse(text: &str) -> Option<Self> {
        let at = text.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let (number, unit) = (text[..at].parse::<f64>().ok()?, text[at..].trim());
        let (_, bytes) = UNITS.iter().find(|(name, _)| name.eq_ignore_ascii_case(unit))?;
        let total = number * *bytes as f64;
        // Beyond this a number has no exact bytes any more; no disk is as large.
        (total < 2_f64.powi(53)).then_some(Self(total.round() as u64))
    }

    /// With the largest unit that leaves nothing over.
    fn exact(self) -> String {
        let unit = UNITS.iter().find(|(_, bytes)| self.0 >= *bytes && self.0.is_multiple_of(*bytes));
        unit.map_or_else(|| format!("{}B", self.0), |(name, bytes)| format!("{}{name}", self.0 / bytes))
    }
}

/// For people: exact where that is short, else with one decimal.
impl fmt::Display for Size {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let exact = self.exact();
        let decimal = UNITS.iter().find(|(name, bytes)| !name.contains('i') && self.0 >= *bytes);
        match decimal {
            Some((name, bytes)) if exact.len() > 6 => write!(f, "{:.1}{name}", self.0 as f64 / *bytes as f64),
            Some(_) | None => f.write_str(&exact),
        }
    }
}

impl Serialize for Size {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.exact())
    }
}

/// A size, or nothing for an empty text.
pub(super) fn size_or_nothing<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Size>, D::Error> {
    let text = String::deserialize(deserializer)?;
    let text = text.trim();
    if text.is_empty() {
        return Ok(None);
    }
    Size::parse(text).map(Some).ok_or_else(|| serde::de::Error::custom(format!("{text:?} is no size")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_size_is_read_in_either_kind_of_unit_and_written_exactly() {
        for (text, bytes, written) in [
            ("500MB", 500_000_000, "500MB"),
            ("2GiB", 2 << 30, "2GiB"),
            ("1.5 gb", 1_500_000_000, "1500MB"),
            ("1025B", 1025, "1025B"),
            ("2000kb", 2_000_000, "2MB"),
        ] {
            let size = Size::parse(text).unwrap();
            assert_eq!((size.0, size.exact().as_str()), (bytes, written), "{text}");
            assert_eq!(Size::parse(&size.exact()), Some(size));
        }
        for wrong in ["500", "MB", "-1MB", "1.2.3MB", "5 apples", "9999999TB"] {
            assert_eq!(Size::parse(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn people_see_a_short_size() {
        assert_eq!(Size(500_000_000).to_string(), "500MB");
        assert_eq!(Size(487_312_384).to_string(), "487.3MB");
        assert_eq!(Size(0).to_string(), "0B");
    }
}
