//! Rates, sizes, durations and instants as types: one grammar to read them, the same grammar to
//! print them.
//!
//! Everything inside the program is an integer of one unit (nanoseconds, bytes) or a rate in
//! messages per second; text exists only at the edges. What [`std::fmt::Display`] prints,
//! [`std::str::FromStr`] reads back unchanged.

use std::borrow::Cow;
use std::fmt;
use std::str::FromStr;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::{Error, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Nanoseconds on `CLOCK_MONOTONIC`, or a span of such nanoseconds; the one clock of every latency.
pub type Nanos = u64;

/// One second in nanoseconds.
pub const SECOND: Nanos = 1_000_000_000;

/// Reads `CLOCK_MONOTONIC` in nanoseconds. All processes of one host share this clock.
#[inline]
pub fn now() -> Nanos {
    let mut ts = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: `ts` is a valid, writable timespec and CLOCK_MONOTONIC exists on every supported
    // kernel.
    unsafe { libc::clock_gettime(libc::CLOCK_MONOTONIC, &mut ts) };
    ts.tv_sec as u64 * SECOND + ts.tv_nsec as u64
}

/// Writes a line on standard error, if that can be written to. `eprintln!` ends the thread when it
/// cannot (a file at its size limit, a reader that has gone), and no run and no connection of a
/// broker may end for a lost word.
pub fn say(words: impl fmt::Display) {
    use std::io::Write;
    // One write per line, so that lines of several threads do not mix; there is nowhere left to say
    // that it failed.
    let _ = std::io::stderr().write_all(format!("{words}\n").as_bytes());
}

/// Why a text is not a quantity; the message names what was expected.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct ParseError(pub String);

fn split_number(text: &str) -> Option<(f64, &str)> {
    let text = text.trim();
    let end = text.find(|c: char| !(c.is_ascii_digit() || c == '.' || c == '_')).unwrap_or(text.len());
    let number: f64 = text[..end].replace('_', "").parse().ok()?;
    Some((number, text[end..].trim()))
}

/// A span of time, kept in nanoseconds; written `250us`, `1.5s`, `2m`, `1h`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Span(pub Nanos);

const SPANS: [(&str, u64); 6] =
    [("h", 3600 * SECOND), ("m", 60 * SECOND), ("s", SECOND), ("ms", 1_000_000), ("us", 1_000), ("ns", 1)];

impl Span {
    /// The span of so many seconds.
    pub const fn secs(n: u64) -> Self {
        Self(n * SECOND)
    }
    /// The span of so many milliseconds.
    pub const fn millis(n: u64) -> Self {
        Self(n * 1_000_000)
    }
    /// Seconds as a fraction.
    pub fn as_secs_f64(self) -> f64 {
        self.0 as f64 / SECOND as f64
    }
    /// The same span for the standard library.
    pub const fn duration(self) -> std::time::Duration {
        std::time::Duration::from_nanos(self.0)
    }
}

impl FromStr for Span {
    type Err = ParseError;
    fn from_str(text: &str) -> Result<Self, ParseError> {
        let bad = || {
            ParseError(format!(
                "`{text}` is not a duration: write a number and a unit, such as \"250us\", \"1.5s\", \"2m\""
            ))
        };
        let (number, unit) = split_number(text).ok_or_else(bad)?;
        let unit = if unit == "µs" { "us" } else { unit };
        let (_, factor) = SPANS.iter().find(|(name, _)| *name == unit).ok_or_else(bad)?;
        let nanos = number * *factor as f64;
        if nanos >= 1e18 {
            return Err(ParseError(format!("`{text}` is longer than 31 years")));
        }
        Ok(Self(nanos.round() as u64))
    }
}

impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0 == 0 {
            return f.write_str("0s");
        }
        // The largest unit that leaves at most three decimals reads back exactly.
        let exact = |unit: u64| self.0.is_multiple_of((unit / 1000).max(1)) && self.0 >= unit;
        let (name, unit) = SPANS.iter().find(|(_, u)| *u <= SECOND && exact(*u)).unwrap_or(&SPANS[5]);
        write!(f, "{}{name}", trim(self.0 as f64 / *unit as f64))
    }
}

/// An amount of bytes; written `128B`, `1KiB`, `1.5MiB`, `2MB`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Bytes(pub u64);

const SIZES: [(&str, u64); 7] = [
    ("GiB", 1 << 30),
    ("MiB", 1 << 20),
    ("KiB", 1 << 10),
    ("GB", 1_000_000_000),
    ("MB", 1_000_000),
    ("KB", 1_000),
    ("B", 1),
];

impl FromStr for Bytes {
    type Err = ParseError;
    fn from_str(text: &str) -> Result<Self, ParseError> {
        let bad = || {
            ParseError(format!(
                "`{text}` is not a size: write a number and a unit, such as \"128B\", \"1KiB\", \"2MB\""
            ))
        };
        let (number, unit) = split_number(text).ok_or_else(bad)?;
        let (_, factor) = SIZES.iter().find(|(name, _)| name.eq_ignore_ascii_case(unit)).ok_or_else(bad)?;
        Ok(Self((number * *factor as f64).round() as u64))
    }
}

impl fmt::Display for Bytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (name, unit) =
            SIZES.iter().take(3).find(|(_, u)| self.0 >= *u && (self.0 * 1000).is_multiple_of(*u)).unwrap_or(&SIZES[6]);
        write!(f, "{}{name}", trim(self.0 as f64 / *unit as f64))
    }
}

/// Messages per second; written `500/s`, `20k/s`, `1.5M/s`, `600/m`, `1/40s`. A number without a
/// unit of time is per second.
#[derive(Debug, Clone, Copy, PartialEq, PartialOrd, Default)]
pub struct Rate(pub f64);

impl FromStr for Rate {
    type Err = ParseError;
    fn from_str(text: &str) -> Result<Self, ParseError> {
        let bad = || {
            ParseError(format!(
                "`{text}` is not a rate: write messages per second, such as 500, \"500/s\", \"20k/s\", \"1.5M/s\""
            ))
        };
        let (number, rest) = split_number(text).ok_or_else(bad)?;
        let (scale, per) = rest.split_once('/').unwrap_or((rest, "s"));
        let scale = match scale.trim() {
            "" => 1.0,
            "k" | "K" => 1e3,
            "M" => 1e6,
            _ => return Err(bad()),
        };
        let per = match per.trim() {
            "s" => 1.0,
            "m" => 60.0,
            "h" => 3600.0,
            // One in so long: `1/40s`.
            span => match span.parse::<Span>() {
                Ok(span) if span.0 > 0 => span.as_secs_f64(),
                _ => return Err(bad()),
            },
        };
        Ok(Self(number * scale / per))
    }
}

impl fmt::Display for Rate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (scale, name) = match self.0 {
            r if r >= 1e6 && (r / 1e3).fract() == 0.0 => (1e6, "M"),
            r if r >= 1e3 && r.fract() == 0.0 => (1e3, "k"),
            _ => (1.0, ""),
        };
        write!(f, "{}{name}/s", self.0 / scale)
    }
}

/// At most three decimals, without trailing zeros.
fn trim(value: f64) -> String {
    let text = format!("{value:.3}");
    text.trim_end_matches('0').trim_end_matches('.').to_string()
}

/// A quantity that was written as a bare number.
trait BareNumber: Sized {
    /// What the number means, or what to write.
    fn bare(number: f64) -> Result<Self, ParseError>;
    /// Its types in a JSON schema.
    fn types() -> serde_json::Value {
        "string".into()
    }
}

impl BareNumber for Span {
    fn bare(number: f64) -> Result<Self, ParseError> {
        Err(ParseError(format!("{number} has no unit of time: write \"{number}s\", \"{number}ms\" or \"{number}us\"")))
    }
}

impl BareNumber for Bytes {
    fn bare(number: f64) -> Result<Self, ParseError> {
        Err(ParseError(format!(
            "{number} has no unit of size: write \"{number}B\", \"{number}KiB\" or \"{number}MiB\""
        )))
    }
}

impl BareNumber for Rate {
    fn bare(number: f64) -> Result<Self, ParseError> {
        number.to_string().parse()
    }
    fn types() -> serde_json::Value {
        serde_json::json!(["string", "number"])
    }
}

/// Reads a quantity that is text, or a bare number.
struct QuantityVisitor<T>(std::marker::PhantomData<T>, &'static str);

impl<T: FromStr<Err = ParseError> + BareNumber> Visitor<'_> for QuantityVisitor<T> {
    type Value = T;
    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.1)
    }
    fn visit_str<E: Error>(self, text: &str) -> Result<T, E> {
        text.parse().map_err(E::custom)
    }
    fn visit_i64<E: Error>(self, number: i64) -> Result<T, E> {
        T::bare(number as f64).map_err(E::custom)
    }
    fn visit_u64<E: Error>(self, number: u64) -> Result<T, E> {
        T::bare(number as f64).map_err(E::custom)
    }
    fn visit_f64<E: Error>(self, number: f64) -> Result<T, E> {
        T::bare(number).map_err(E::custom)
    }
}

macro_rules! as_text {
    ($($name:ident, $pattern:literal, $short:literal, $what:literal);*) => {$(
        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
                s.collect_str(self)
            }
        }
        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
                d.deserialize_any(QuantityVisitor::<$name>(std::marker::PhantomData, $short))
            }
        }
        impl JsonSchema for $name {
            fn schema_name() -> Cow<'static, str> {
                stringify!($name).into()
            }
            fn json_schema(_: &mut SchemaGenerator) -> Schema {
                json_schema!({ "type": <$name>::types(), "pattern": $pattern, "description": $what })
            }
        }
    )*};
}

as_text! {
    Span, r"^[0-9._]+ ?(h|m|s|ms|us|µs|ns)$", "a duration such as \"250us\", \"1.5s\" or \"2m\"", "A duration with its unit, such as \"250us\", \"1.5s\" or \"2m\".";
    Bytes, r"^[0-9._]+ ?([GMK]i?)?B$", "a size such as \"128B\", \"1KiB\" or \"2MB\"", "A size with its unit, such as \"128B\", \"1KiB\" or \"2MB\".";
    Rate, r"^[0-9._]+ ?[kM]?(/(s|m|h|[0-9._]+ ?(h|m|s|ms|us|ns)))?$", "a rate such as \"500/s\", \"20k/s\" or \"1/40s\"", "Messages per unit of time, such as \"500/s\", \"20k/s\", \"1.5M/s\" or \"1/40s\"; per second without a unit of time."
}

/// A latency for people: three significant digits in the unit that fits, `84.1us`, `1.20ms`, `12s`.
pub fn latency(nanos: Nanos) -> String {
    let (value, unit) = match nanos {
        0..=999 => return format!("{nanos}ns"),
        1_000..=999_999 => (nanos as f64 / 1e3, "us"),
        1_000_000..=999_999_999 => (nanos as f64 / 1e6, "ms"),
        _ => (nanos as f64 / 1e9, "s"),
    };
    format!("{}{unit}", three_digits(value))
}

/// A time in a sentence: `145 µs`, `0.49 ms`, `16 ms`, `1.2 s`; two digits, three from 100 on.
pub fn time_words(nanos: Nanos) -> String {
    let two = |v: f64| match v {
        v if v >= 9.95 => format!("{v:.0}"),
        v if v >= 0.995 => format!("{v:.1}").trim_end_matches('0').trim_end_matches('.').to_string(),
        v => format!("{v:.2}"),
    };
    match nanos {
        0..=999 => format!("{nanos} ns"),
        1_000..=299_999 => format!("{} µs", two(nanos as f64 / 1e3)),
        300_000..=999_499_999 => format!("{} ms", two(nanos as f64 / 1e6)),
        _ => format!("{} s", two(nanos as f64 / 1e9)),
    }
}

/// `1,200,000`: a count that is compared digit by digit.
pub fn digits(n: u64) -> String {
    let text = n.to_string();
    let mut out = String::new();
    for (i, c) in text.chars().enumerate() {
        if i > 0 && (text.len() - i).is_multiple_of(3) {
            out.push(',');
        }
        out.push(c);
    }
    out
}

/// `1 run`, `3 runs`.
pub fn plural(n: u64, word: &str) -> String {
    format!("{} {word}{}", digits(n), if n == 1 { "" } else { "s" })
}

/// A count or rate for people: `412`, `19.9k`, `1.25M`.
pub fn count(value: f64) -> String {
    match value.abs() {
        v if v >= 999.5e6 => format!("{}G", three_digits(value / 1e9)),
        v if v >= 999.5e3 => format!("{}M", three_digits(value / 1e6)),
        v if v >= 9_999.5 => format!("{}k", three_digits(value / 1e3)),
        v if v >= 100.0 || value.fract() == 0.0 => format!("{value:.0}"),
        _ => three_digits(value),
    }
}

/// Three significant digits without an exponent.
pub fn three_digits(value: f64) -> String {
    match value.abs() {
        v if v >= 99.95 => format!("{value:.0}"),
        v if v >= 9.995 => format!("{value:.1}"),
        v if v >= 0.9995 || v == 0.0 => format!("{value:.2}"),
        _ => format!("{value:.3}"),
    }
}

/// Bytes as lower-case hexadecimal digits, two a byte.
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn reads_and_prints_the_same_text() {
        for text in ["250us", "1.5s", "90s", "10ms", "1ns", "0s", "1.234ms"] {
            assert_eq!(text.parse::<Span>().unwrap().to_string(), text);
        }
        for text in ["16B", "128B", "1KiB", "1.5MiB", "2GiB", "1000B"] {
            assert_eq!(text.parse::<Bytes>().unwrap().to_string(), text);
        }
        for text in ["500/s", "20k/s", "1.5M/s", "1/s", "0.5/s", "1234.5/s"] {
            assert_eq!(text.parse::<Rate>().unwrap().to_string(), text);
        }
        assert_eq!("2m".parse::<Span>().unwrap(), Span::secs(120));
        assert_eq!("600/m".parse::<Rate>().unwrap(), Rate(10.0));
        assert_eq!("1KB".parse::<Bytes>().unwrap(), Bytes(1000));
    }

    #[test]
    fn refuses_what_has_no_unit() {
        assert!("10".parse::<Span>().is_err());
        assert!("-1s".parse::<Span>().is_err());
        assert!("1 fortnight".parse::<Span>().is_err());
        assert!("128".parse::<Bytes>().is_err());
        for text in ["", "k", "1/0s", "1/x", "20x", "1/s/s", "-1"] {
            assert!(text.parse::<Rate>().is_err(), "{text}");
        }
        assert!("".parse::<Rate>().is_err());
    }

    /// However it is written: as text, as a number of TOML or JSON, with or without a unit.
    #[test]
    fn a_rate_without_a_unit_is_per_second() {
        #[derive(Deserialize)]
        struct Typed {
            rate: Rate,
        }
        let toml = |text: &str| toml::from_str::<Typed>(&format!("rate = {text}")).map(|l| l.rate);
        for (text, rate) in [("1000", 1e3), ("0.5", 0.5), ("\"10k\"", 1e4), ("\"10000\"", 1e4), ("\"1.5M/s\"", 1.5e6)] {
            assert_eq!(toml(text).unwrap(), Rate(rate), "{text}");
            assert_eq!(serde_json::from_str::<Rate>(text).unwrap(), Rate(rate), "{text}");
        }
        assert_eq!("10k".parse::<Rate>().unwrap(), Rate(1e4));
        assert_eq!("2.5M".parse::<Rate>().unwrap(), Rate(2.5e6));
        for text in ["-1", "inf", "nan", "\"10q\"", "\"k\"", "true", "\"10/\"", "\"10/d\"", "[1]"] {
            let said = toml(text).unwrap_err().to_string();
            assert!(said.contains("rate"), "{text}: {said}");
        }
    }

    #[test]
    fn a_bare_number_is_a_rate_per_second_and_no_other_quantity() {
        for (text, rate) in [("1000", 1e3), ("20k", 2e4), ("1.5M", 1.5e6), ("1/40s", 0.025), ("3k/500ms", 6e3)] {
            assert_eq!(text.parse::<Rate>().unwrap(), Rate(rate), "{text}");
        }
        assert_eq!(serde_json::from_str::<Rate>("1000").unwrap(), Rate(1e3));
        assert_eq!(serde_json::from_str::<Rate>("0.5").unwrap(), Rate(0.5));
        assert!(serde_json::from_str::<Rate>("-1").is_err());
        let told = serde_json::from_str::<Span>("5").unwrap_err().to_string();
        assert!(told.starts_with("5 has no unit of time: write \"5s\""), "{told}");
        let told = serde_json::from_str::<Bytes>("128").unwrap_err().to_string();
        assert!(told.starts_with("128 has no unit of size: write \"128B\""), "{told}");
    }

    #[test]
    fn latencies_have_three_digits() {
        assert_eq!(latency(999), "999ns");
        assert_eq!(latency(84_123), "84.1us");
        assert_eq!(latency(1_203_000), "1.20ms");
        assert_eq!(latency(12_340_000_000), "12.3s");
        assert_eq!(count(19_940.0), "19.9k");
        assert_eq!(count(412.0), "412");
    }

    proptest! {
        #[test]
        fn spans_round_trip(nanos in 0u64..10_000_000_000_000) {
            let span = Span(nanos);
            prop_assert_eq!(span.to_string().parse::<Span>().unwrap(), span);
        }
        #[test]
        fn sizes_round_trip(n in 0u64..1 << 40) {
            let size = Bytes(n);
            prop_assert_eq!(size.to_string().parse::<Bytes>().unwrap(), size);
        }
        #[test]
        fn rates_round_trip(r in 0.001f64..1e7) {
            let rate = Rate(r);
            let back: Rate = rate.to_string().parse().unwrap();
            prop_assert!((back.0 - r).abs() <= r * 1e-12);
        }
    }
}
pub mod calendar;
