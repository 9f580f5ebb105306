//! What is too large for one message goes in pieces, each asked for until it is there.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::time::Duration;

use async_nats::Client;
use bytes::Bytes;
use flate2::Compression;
use flate2::read::ZlibDecoder;
use flate2::write::ZlibEncoder;
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::link::ask;
use super::messages::{AgentAnswer, PieceHeader, PieceKind, Refusal, sha256};

/// Bytes of a piece at most; less where the server takes less.
const PIECE: usize = 256 * 1024;
/// Pieces at most: what is larger is not from an agent.
const MOST: u32 = 4096;

/// Compressed JSON.
pub fn packed(what: &impl Serialize) -> Vec<u8> {
    let mut to = ZlibEncoder::new(Vec::new(), Compression::fast());
    let text = serde_json::to_vec(what).unwrap_or_default();
    // Memory takes every byte.
    to.write_all(&text).and_then(|()| to.finish()).unwrap_or_default()
}

/// What was packed.
///
/// # Errors
/// In words, when it was not.
pub fn unpacked<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, String> {
    let mut text = Vec::new();
    ZlibDecoder::new(bytes).read_to_end(&mut text).map_err(|e| e.to_string())?;
    serde_json::from_slice(&text).map_err(|e| e.to_string())
}

/// Whose it is, of which trial, and what it is.
#[derive(Debug, Clone)]
pub struct Sender {
    pub id: String,
    pub trial: u64,
    pub kind: PieceKind,
}

/// Sends bytes in pieces; each within the bound.
///
/// # Errors
/// When nobody took a piece, or the coordinator refused.
pub async fn deliver(
    client: &Client,
    subject: &str,
    from: &Sender,
    whole: &[u8],
    bound: Duration,
) -> Result<(), String> {
    let size = PIECE.min(client.server_info().max_payload / 2).max(1024);
    let (sha256, of) = (sha256(whole), whole.len().div_ceil(size).max(1) as u32);
    for number in 0..of {
        let from_byte = number as usize * size;
        let part = &whole[from_byte.min(whole.len())..(from_byte + size).min(whole.len())];
        let Sender { id, trial, kind } = from.clone();
        let header = PieceHeader { id, trial, kind, number, of, sha256: sha256.clone() };
        let mut payload = serde_json::to_vec(&header).unwrap_or_default();
        payload.push(b'\n');
        payload.extend_from_slice(part);
        match ask::<AgentAnswer>(client, subject, payload.into(), bound).await? {
            AgentAnswer::Yes => {}
            AgentAnswer::No { why } => return Err(why.to_string()),
        }
    }
    Ok(())
}

/// The header and the bytes of a piece.
///
/// # Errors
/// When it has none.
pub fn piece(payload: &Bytes) -> Result<(PieceHeader, Bytes), Refusal> {
    let unreadable = |words: &str| Refusal::Unreadable { words: words.into() };
    let end = payload.iter().position(|b| *b == b'\n').ok_or_else(|| unreadable("a piece has no header"))?;
    let header: PieceHeader = serde_json::from_slice(&payload[..end]).map_err(|e| unreadable(&e.to_string()))?;
    if header.of > MOST || header.number >= header.of {
        return Err(unreadable("a piece has no such number"));
    }
    Ok((header, payload.slice(end + 1..)))
}

/// Pieces that have come of one whole.
#[derive(Debug, Default)]
pub struct Assembly {
    sha256: String,
    parts: BTreeMap<u32, Bytes>,
}

impl Assembly {
    /// Adds a piece; gives the whole when it is all there and has its checksum.
    pub fn add(&mut self, header: &PieceHeader, part: Bytes) -> Option<Vec<u8>> {
        if self.sha256 != header.sha256 {
            *self = Self { sha256: header.sha256.clone(), parts: BTreeMap::new() };
        }
        self.parts.insert(header.number, part);
        if self.parts.len() < header.of as usize {
            return None;
        }
        let whole: Vec<u8> = std::mem::take(&mut self.parts).into_values().flatten().collect();
        (sha256(&whole) == self.sha256).then_some(whole)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn pieces_in_any_order_and_twice_are_the_whole(
            whole in prop::collection::vec(any::<u8>(), 0..400), size in 1usize..90, order in any::<prop::sample::Index>(),
        ) {
            let of = whole.len().div_ceil(size).max(1) as u32;
            let header = |number| PieceHeader {
                id: "a".into(), trial: 1, kind: PieceKind::Accounts, number, of, sha256: sha256(&whole),
            };
            let part = |n: u32| {
                let from = (n as usize * size).min(whole.len());
                Bytes::copy_from_slice(&whole[from..(from + size).min(whole.len())])
            };
            let mut assembly = Assembly::default();
            let first = order.index(of as usize) as u32;
            let mut got = None;
            for n in (first..of).chain(0..first) {
                // A piece whose answer was lost comes again.
                let again = assembly.add(&header(n), part(n)).or_else(|| {
                    if of > 1 { assembly.add(&header(n), part(n)) } else { None }
                });
                got = got.or(again);
            }
            prop_assert_eq!(got, Some(whole));
        }
    }

    #[test]
    fn what_is_no_piece_is_refused() {
        for text in [
            "",
            "{}\n",
            "no header",
            "{\"id\":\"a\",\"trial\":1,\"kind\":\"accounts\",\"number\":2,\"of\":2,\"sha256\":\"\"}\nx",
        ] {
            assert!(piece(&Bytes::from(text)).is_err(), "{text}");
        }
    }
}
