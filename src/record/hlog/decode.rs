//! One encoded histogram: HdrHistogram's encodings V0, V1 and V2, compressed or not.
//!
//! V2 is what is written since 2015; V0 and V1 are in older logs (jHiccup, YCSB). All three have a
//! cookie of four bytes, whose low byte says which; V0 and V1 say in it how wide a count is.
//! Nothing of the input is trusted: sizes are checked before anything is reserved.

use std::io::Read;

use flate2::read::ZlibDecoder;
use hdrhistogram::Histogram;
use hdrhistogram::serialization::Deserializer;

/// The largest histogram that is read, when unpacked.
const LARGEST: u64 = 64 << 20;
/// Cookies, without the bits for the width of a count.
const V0: u32 = 0x1c84_9308;
const V0_COMPRESSED: u32 = 0x1c84_9309;
const V1: u32 = 0x1c84_9301;
const V1_COMPRESSED: u32 = 0x1c84_9302;
const V2: u32 = 0x1c84_9303;
const V2_COMPRESSED: u32 = 0x1c84_9304;
/// Bytes of the header of V1 and V2, and of V0.
const HEADER: usize = 40;
const HEADER_V0: usize = 32;

/// What can be read, for a message.
pub(super) const READABLE: &str = "encodings V0, V1 and V2 of integer histograms can be read";

/// The next bytes, big-endian as all of it is.
fn take<const N: usize>(bytes: &mut &[u8]) -> Result<[u8; N], String> {
    let (first, rest) = bytes.split_first_chunk::<N>().ok_or("it ends within its header")?;
    *bytes = rest;
    Ok(*first)
}

fn base(cookie: u32) -> u32 {
    cookie & !0xf0
}

/// Reads a histogram.
///
/// # Errors
/// What is wrong with it, as part of a sentence.
pub(super) fn decode(bytes: &[u8]) -> Result<Histogram<u64>, String> {
    let mut rest = bytes;
    let cookie = u32::from_be_bytes(take(&mut rest)?);
    match base(cookie) {
        V0_COMPRESSED | V1_COMPRESSED | V2_COMPRESSED => {
            let length = u32::from_be_bytes(take(&mut rest)?) as usize;
            if length > rest.len() {
                return Err(format!("{length} bytes of it are announced and {} are there", rest.len()));
            }
            let mut plain = Vec::new();
            let mut inflate = ZlibDecoder::new(&rest[..length]).take(LARGEST + 1);
            inflate.read_to_end(&mut plain).map_err(|e| format!("it cannot be unpacked: {e}"))?;
            if plain.len() as u64 > LARGEST {
                return Err(format!("it is larger than {LARGEST} bytes when unpacked"));
            }
            let inner = plain.first_chunk().map_or(0, |c| base(u32::from_be_bytes(*c)));
            if [V0_COMPRESSED, V1_COMPRESSED, V2_COMPRESSED].contains(&inner) {
                return Err("it is packed twice".into());
            }
            decode(&plain)
        }
        V0 => {
            let header = Header { payload: None, ..header_v0(&mut rest)? };
            fixed(rest, &header, width(cookie)?)
        }
        V1 => {
            let header = header(&mut rest)?;
            fixed(rest, &header, width(cookie)?)
        }
        V2 => {
            let header = header(&mut rest)?;
            // The library reserves what the header says.
            if header.payload.is_some_and(|n| n > rest.len()) {
                return Err("it ends within its counts".into());
            }
            let words = "its counts are damaged";
            let found =
                Deserializer::new().deserialize::<u64, _>(&mut &bytes[..]).map_err(|e| format!("{words}: {e}"))?;
            bounded(&found)?;
            Ok(found)
        }
        0x0c72_124e | 0x0c72_124f => Err(format!("it is a histogram of floating-point values; {READABLE}")),
        _ => Err(format!("its encoding (cookie {cookie:#010x}) is not known; {READABLE}")),
    }
}

/// Counts are signed in the format, and are packed again as such.
fn bounded(h: &Histogram<u64>) -> Result<(), String> {
    if h.len() > i64::MAX as u64 { Err("its counts are above what a count may be".into()) } else { Ok(()) }
}

/// What a header says.
struct Header {
    /// Bytes of the counts, where it says so.
    payload: Option<usize>,
    digits: u32,
    lowest: u64,
    highest: u64,
}

fn header_v0(rest: &mut &[u8]) -> Result<Header, String> {
    debug_assert_eq!(4 + 4 + 8 + 8 + 8, HEADER_V0);
    let digits = u32::from_be_bytes(take(rest)?);
    let (lowest, highest) = (u64::from_be_bytes(take(rest)?), u64::from_be_bytes(take(rest)?));
    // The total, which the counts say as well.
    take::<8>(rest)?;
    checked(Header { payload: None, digits, lowest, highest })
}

fn header(rest: &mut &[u8]) -> Result<Header, String> {
    debug_assert_eq!(4 + 4 + 4 + 4 + 8 + 8 + 8, HEADER);
    let payload = u32::from_be_bytes(take(rest)?) as usize;
    let offset = i32::from_be_bytes(take(rest)?);
    let digits = u32::from_be_bytes(take(rest)?);
    let (lowest, highest) = (u64::from_be_bytes(take(rest)?), u64::from_be_bytes(take(rest)?));
    let ratio = f64::from_be_bytes(take(rest)?);
    if offset != 0 || ratio != 1.0 {
        return Err(format!(
            "its values are shifted (offset {offset}, ratio {ratio}), as of floating-point values; {READABLE}"
        ));
    }
    checked(Header { payload: Some(payload), digits, lowest, highest })
}

fn checked(h: Header) -> Result<Header, String> {
    if h.digits > 5 || h.lowest < 1 || h.highest < 2 * h.lowest.min(u64::MAX / 2) || h.lowest > 1 << 40 {
        return Err(format!("its range is impossible: {} digits, {} to {}", h.digits, h.lowest, h.highest));
    }
    Ok(h)
}

/// Bytes of a count.
fn width(cookie: u32) -> Result<usize, String> {
    match (cookie & 0xf0) >> 4 {
        n @ (2 | 4 | 8) => Ok(n as usize),
        n => Err(format!("its counts have {n} bytes, and may have 2, 4 or 8")),
    }
}

/// Counts of a fixed width, one for each value that the histogram tells apart.
fn fixed(bytes: &[u8], header: &Header, width: usize) -> Result<Histogram<u64>, String> {
    let length = header.payload.unwrap_or(bytes.len());
    let counts = bytes.get(..length).ok_or("it ends within its counts")?;
    let mut found = Histogram::<u64>::new_with_bounds(header.lowest, header.highest, header.digits as u8)
        .map_err(|e| format!("its range is impossible: {e}"))?;
    found.auto(true);
    for (index, word) in counts.chunks_exact(width).enumerate() {
        let count = word.iter().fold(0u64, |all, byte| all << 8 | u64::from(*byte));
        if count == 0 {
            continue;
        }
        if count > i64::MAX as u64 {
            return Err("one of its counts is negative".into());
        }
        let value = value(index as u64, header).ok_or("one of its values is above 64 bits")?;
        found.record_n(value, count).map_err(|e| format!("one of its values is out of range: {e}"))?;
    }
    bounded(&found)?;
    Ok(found)
}

/// The smallest value that a count stands for: values are kept in steps that double with each power
/// of two, with as many steps as the digits ask for.
fn value(index: u64, h: &Header) -> Option<u64> {
    let unit = h.lowest.ilog2();
    let half = (2 * 10u64.pow(h.digits)).next_power_of_two().ilog2().max(1) - 1;
    let (bucket, step) = (index >> half, index & ((1 << half) - 1));
    let (shift, step) = if bucket == 0 { (0, step) } else { (bucket - 1, step + (1 << half)) };
    let shift = u32::try_from(shift).ok()?.checked_add(unit)?;
    step.checked_shl(shift).filter(|v| v >> shift == step)
}

#[cfg(test)]
mod tests {
    use super::*;
    use flate2::Compression;
    use flate2::write::ZlibEncoder;
    use proptest::prelude::*;
    use std::io::Write;

    /// The same counts as V0 or V1, as the Java library lays them out.
    fn encode(h: &Histogram<u64>, v0: bool, width: usize) -> Vec<u8> {
        let mut counts = Vec::new();
        let mut at = 0u64;
        // Every index up to the one of the largest value.
        while at <= h.max() {
            let count = h.count_at(at);
            counts.extend_from_slice(&count.to_be_bytes()[8 - width..]);
            at = h.highest_equivalent(at) + 1;
        }
        let cookie = if v0 { V0 } else { V1 } | (width as u32) << 4;
        let mut out = cookie.to_be_bytes().to_vec();
        if !v0 {
            out.extend((counts.len() as u32).to_be_bytes());
            out.extend(0u32.to_be_bytes());
        }
        out.extend(u32::from(h.sigfig()).to_be_bytes());
        out.extend(h.low().to_be_bytes());
        out.extend(h.high().to_be_bytes());
        out.extend(if v0 { h.len().to_be_bytes() } else { 1f64.to_be_bytes() });
        out.extend(counts);
        out
    }

    fn packed(plain: &[u8], cookie: u32, width: usize) -> Vec<u8> {
        let mut z = ZlibEncoder::new(Vec::new(), Compression::default());
        z.write_all(plain).unwrap();
        let z = z.finish().unwrap();
        let mut out = (cookie | (width as u32) << 4).to_be_bytes().to_vec();
        out.extend((z.len() as u32).to_be_bytes());
        out.extend(z);
        out
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(48))]
        #[test]
        fn every_encoding_is_read_back(
            values in prop::collection::vec((0u64..2_000_000_000, 1u64..300), 1..60), digits in 0u8..4, low in 1u64..2000
        ) {
            let mut h = Histogram::<u64>::new_with_bounds(low, 3_600_000_000_000, digits).unwrap();
            values.iter().for_each(|(v, n)| h.record_n(*v, *n).unwrap());
            for width in [4, 8] {
                for (v0, cookie) in [(true, V0_COMPRESSED), (false, V1_COMPRESSED)] {
                    let plain = encode(&h, v0, width);
                    prop_assert_eq!(&decode(&plain).unwrap(), &h);
                    prop_assert_eq!(&decode(&packed(&plain, cookie, width)).unwrap(), &h);
                }
            }
        }

        #[test]
        fn no_bytes_panic(mut bytes in prop::collection::vec(any::<u8>(), 0..120), version in 0u8..16, width in 0u8..16, head: bool) {
            if head && bytes.len() > 4 {
                bytes[..4].copy_from_slice(&[0x1c, 0x84, 0x93, width << 4 | version]);
            }
            if let Err(said) = decode(&bytes) {
                prop_assert!(!said.is_empty() && !said.contains('\n'));
            }
            let _ = decode(&packed(&bytes, V1_COMPRESSED, 8));
            let _ = decode(&packed(&bytes, V2_COMPRESSED, 0));
        }
    }
}
