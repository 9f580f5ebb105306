//! The records of a batch, compressed or not, one by one and within bounds.
//!
//! A broker looks into compressed records only where it must: for a compacted topic, for records
//! ahead of their time, for the offset of the newest time, and to compress them anew where
//! `compression.type` asks for it. No more than [`MAX_LEN`] bytes are decompressed of a batch, and
//! one batch at a time, so that what decoders hold is held once.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::ops::ControlFlow;
use std::sync::{Mutex, PoisonError};

use super::batch::{self, HEADER};

/// Bytes of a batch that are decompressed at most; also the longest window of zstd, which is what
/// its level 22 has.
pub const MAX_LEN: u64 = 128 << 20;

/// What snappy can make of one byte at most is 22; a block that claims more is none.
const SNAPPY_RATIO: usize = 32;
/// How the blocks of snappy-java start; what does not start so is one block without a length.
const SNAPPY_JAVA: &[u8] = b"\x82SNAPPY\0";
/// Length of that start, with its two versions.
const SNAPPY_JAVA_HEADER: usize = 16;

/// Held while a batch is decompressed.
static ONE: Mutex<()> = Mutex::new(());

/// The names of what can be asked for in `compression.type`, at the protocol's numbers.
pub const NAMES: [&str; 5] = ["uncompressed", "gzip", "snappy", "lz4", "zstd"];

/// Length of a block of snappy, as Kafka's own.
const SNAPPY_BLOCK: usize = 32 << 10;

/// One record, as far as a broker has to know it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RecordSummary {
    /// Its place in the batch.
    pub index: i32,
    /// Offset relative to the batch's.
    pub offset: u32,
    /// Time in milliseconds since the Unix epoch.
    pub timestamp: i64,
    /// Whether it has a key.
    pub keyed: bool,
}

/// Why the records of a batch cannot be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unreadable {
    /// They are longer than [`MAX_LEN`].
    TooLong,
    /// They are not what the batch says they are.
    Malformed,
}

impl From<io::Error> for Unreadable {
    fn from(error: io::Error) -> Self {
        if error.kind() == io::ErrorKind::FileTooLarge { Self::TooLong } else { Self::Malformed }
    }
}

/// Calls `each` with every record until it breaks off. May decompress, which takes time.
///
/// # Errors
/// When the records cannot be read; those before may have been seen.
pub fn walk(batch: &[u8], mut each: impl FnMut(RecordSummary) -> ControlFlow<()>) -> Result<(), Unreadable> {
    let Some(mut body) = batch.get(HEADER..) else { return Err(Unreadable::Malformed) };
    let (first, count) = (batch::first_timestamp(batch), batch::count(batch));
    let all = batch::append_time(batch);
    let mut each = |record: RecordSummary| each(RecordSummary { timestamp: all.unwrap_or(record.timestamp), ..record });
    if !batch::is_compressed(batch) {
        return records(&mut body, first, count, &mut each);
    }
    let _one = ONE.lock().unwrap_or_else(PoisonError::into_inner);
    let decoder = decoder(batch::codec(batch), body)?;
    let mut input = BufReader::new(decoder.take(MAX_LEN));
    let result = records(&mut input, first, count, &mut each);
    match result {
        Err(_) if input.get_ref().limit() == 0 => Err(Unreadable::TooLong),
        result => result,
    }
}

/// The same batch compressed in another way, at each library's usual level. Takes time, and memory
/// for all the records.
///
/// # Errors
/// When the records cannot be decompressed, or are longer than [`MAX_LEN`].
pub fn convert(batch: &[u8], codec: u8) -> Result<Vec<u8>, Unreadable> {
    let _one = ONE.lock().unwrap_or_else(PoisonError::into_inner);
    let body = batch.get(HEADER..).ok_or(Unreadable::Malformed)?;
    let mut plain = Vec::new();
    let plain = if batch::is_compressed(batch) {
        let mut input = decoder(batch::codec(batch), body)?.take(MAX_LEN + 1);
        input.read_to_end(&mut plain)?;
        if input.limit() == 0 {
            return Err(Unreadable::TooLong);
        }
        &plain[..]
    } else {
        body
    };
    let mut out = batch[..HEADER].to_vec();
    compress(plain, codec, &mut out)?;
    batch::recode(&mut out, codec);
    Ok(out)
}

fn compress(plain: &[u8], codec: u8, out: &mut Vec<u8>) -> io::Result<()> {
    match codec {
        1 => {
            let mut encoder = flate2::write::GzEncoder::new(out, flate2::Compression::default());
            encoder.write_all(plain)?;
            encoder.finish()?;
        }
        2 => {
            out.extend_from_slice(SNAPPY_JAVA);
            out.extend_from_slice(&[0, 0, 0, 1, 0, 0, 0, 1]);
            for block in plain.chunks(SNAPPY_BLOCK) {
                let block = snap::raw::Encoder::new().compress_vec(block).map_err(io::Error::other)?;
                out.extend_from_slice(&(block.len() as u32).to_be_bytes());
                out.extend_from_slice(&block);
            }
        }
        3 => {
            let mut encoder = lz4_flex::frame::FrameEncoder::new(out);
            encoder.write_all(plain)?;
            encoder.finish().map_err(io::Error::other)?;
        }
        4 => ruzstd::encoding::compress(plain, out, ruzstd::encoding::CompressionLevel::Fastest),
        _ => out.extend_from_slice(plain),
    }
    Ok(())
}

fn decoder<'a>(codec: i16, body: &'a [u8]) -> Result<Box<dyn Read + 'a>, Unreadable> {
    Ok(match codec {
        1 => Box::new(flate2::read::MultiGzDecoder::new(body)),
        2 => Box::new(Snappy::new(body)),
        3 => Box::new(lz4_flex::frame::FrameDecoder::new(body)),
        4 => {
            let decoder = ruzstd::decoding::StreamingDecoder::new_with_max_window_size(body, MAX_LEN);
            Box::new(decoder.map_err(|_| Unreadable::Malformed)?)
        }
        _ => return Err(Unreadable::Malformed),
    })
}

fn records(
    input: &mut impl BufRead,
    first: i64,
    count: i32,
    each: &mut impl FnMut(RecordSummary) -> ControlFlow<()>,
) -> Result<(), Unreadable> {
    for index in 0..count {
        let len = u64::try_from(varint(input)?).map_err(|_| Unreadable::Malformed)?;
        let mut body = input.by_ref().take(len);
        // The record's own attributes mean nothing.
        byte(&mut body)?;
        let timestamp = first.wrapping_add(varint(&mut body)?);
        let offset = u32::try_from(varint(&mut body)?).map_err(|_| Unreadable::Malformed)?;
        let key = varint(&mut body)?;
        if u64::try_from(key).is_ok_and(|key| key > body.limit()) {
            return Err(Unreadable::Malformed);
        }
        io::copy(&mut body, &mut io::sink())?;
        if body.limit() > 0 {
            return Err(Unreadable::Malformed);
        }
        if each(RecordSummary { index, offset, timestamp, keyed: key >= 0 }).is_break() {
            return Ok(());
        }
    }
    if input.fill_buf()?.is_empty() { Ok(()) } else { Err(Unreadable::Malformed) }
}

fn byte(input: &mut impl Read) -> Result<u8, Unreadable> {
    let mut byte = [0];
    input.read_exact(&mut byte)?;
    Ok(byte[0])
}

fn varint(input: &mut impl Read) -> Result<i64, Unreadable> {
    let mut value = 0u64;
    for shift in (0..64).step_by(7) {
        let byte = byte(input)?;
        value |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Ok((value >> 1) as i64 ^ -((value & 1) as i64));
        }
    }
    Err(Unreadable::Malformed)
}

/// Snappy as Java writes it, in blocks, or as librdkafka does, in one.
struct Snappy<'a> {
    rest: &'a [u8],
    blocks: bool,
    block: io::Cursor<Vec<u8>>,
}

impl<'a> Snappy<'a> {
    fn new(body: &'a [u8]) -> Self {
        let blocks = body.starts_with(SNAPPY_JAVA) && body.len() >= SNAPPY_JAVA_HEADER;
        let rest = if blocks { &body[SNAPPY_JAVA_HEADER..] } else { body };
        Self { rest, blocks, block: io::Cursor::default() }
    }

    fn next(&mut self) -> Option<&'a [u8]> {
        if !self.blocks {
            return Some(std::mem::take(&mut self.rest));
        }
        let (len, rest) = self.rest.split_first_chunk::<4>()?;
        let (block, rest) = rest.split_at_checked(u32::from_be_bytes(*len) as usize)?;
        self.rest = rest;
        Some(block)
    }
}

impl Read for Snappy<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let none = || io::Error::from(io::ErrorKind::InvalidData);
        while self.block.position() == self.block.get_ref().len() as u64 {
            if self.rest.is_empty() {
                return Ok(0);
            }
            let block = self.next().ok_or_else(none)?;
            let len = snap::raw::decompress_len(block).map_err(io::Error::other)?;
            if len > block.len().saturating_mul(SNAPPY_RATIO) {
                return Err(none());
            }
            if len as u64 > MAX_LEN {
                return Err(io::ErrorKind::FileTooLarge.into());
            }
            let block = snap::raw::Decoder::new().decompress_vec(block).map_err(io::Error::other)?;
            self.block = io::Cursor::new(block);
        }
        self.block.read(buffer)
    }
}

#[cfg(test)]
mod tests;
