//! Measures a request before it is decoded, so that a length it claims is never believed before it
//! has been seen.
//!
//! The decoder of the protocol crate reserves memory for as many elements as an array says it has.
//! Here every request this broker serves is described once, field by field with the versions it is
//! in; [`check`] walks the bytes by that description and refuses what is shorter than it claims.
//! Only then is it decoded. Bytes that follow are left alone, as Kafka does: librdkafka 2.16 asks
//! for the metadata of all topics with three bytes too many.

use FieldKind::{Blob, Byte, Int, Items, List, Long, Maybe, Short, Tagged, Text, Uuid};

/// Elements of all arrays of a request, and tagged fields, at most.
pub const MAX_ELEMENTS: usize = 100_000;

enum FieldKind {
    Byte,
    Short,
    Int,
    Long,
    Uuid,
    Text,
    Blob,
    /// An array of structures.
    List(&'static [Field]),
    /// A structure that may be absent.
    Maybe(&'static [Field]),
    /// An array of something simple.
    Items(&'static FieldKind),
    /// A field known by its tag, which comes after all others. The decoder reads it by its kind,
    /// whatever length the tag claims, so both must agree.
    Tagged(usize, &'static FieldKind),
}

/// A field, and its first and last version.
struct Field(FieldKind, i16, i16);

/// A request: the first version with compact lengths and tagged fields, and its fields.
struct RequestShape(i16, &'static [Field]);

const LAST: i16 = i16::MAX;
const NEVER: i16 = i16::MAX;

macro_rules! fields {
    ($($kind:expr $(, $from:literal $(- $to:literal)?)?);* $(;)?) => {
        &[$(Field($kind, fields!(@from $($from)?), fields!(@to $($($to)?)?))),*]
    };
    (@from) => { 0 };
    (@from $from:literal) => { $from };
    (@to) => { LAST };
    (@to $to:literal) => { $to };
}

const TOPIC_PARTITIONS: &[Field] = fields![Text; Items(&Int)];

/// The shapes, by API key.
fn shape(key: i16) -> Option<RequestShape> {
    Some(match key {
        // Produce
        0 => RequestShape(9, fields![Text; Short; Int; List(fields![Text; List(fields![Int; Blob])])]),
        // Fetch
        1 => RequestShape(
            12,
            fields![
                Int; Int; Int; Int; Byte; Int, 7; Int, 7;
                List(fields![Text; List(fields![Int; Int, 9; Long; Int, 12; Long, 5; Int])]);
                List(TOPIC_PARTITIONS), 7; Text, 11; Tagged(0, &Text), 12
            ],
        ),
        // ListOffsets
        2 => RequestShape(6, fields![Int; Byte, 2; List(fields![Text; List(fields![Int; Int, 4; Long])]); Int, 10]),
        // Metadata
        3 => RequestShape(9, fields![List(fields![Uuid, 10; Text]); Byte, 4; Byte, 8 - 10; Byte, 8]),
        // OffsetCommit
        8 => RequestShape(
            8,
            fields![
                Text; Int; Text; Text, 7; Long, 2 - 4;
                List(fields![Text; List(fields![Int; Long; Int, 6; Text])])
            ],
        ),
        // OffsetFetch
        9 => RequestShape(
            6,
            fields![
                Text, 1 - 7; List(TOPIC_PARTITIONS), 1 - 7;
                List(fields![Text; Text, 9; Int, 9; List(TOPIC_PARTITIONS)]), 8; Byte, 7
            ],
        ),
        // FindCoordinator
        10 => RequestShape(3, fields![Text, 0 - 3; Byte, 1; Items(&Text), 4]),
        // JoinGroup
        11 => RequestShape(6, fields![Text; Int; Int, 1; Text; Text, 5; Text; List(fields![Text; Blob]); Text, 8]),
        // Heartbeat
        12 => RequestShape(4, fields![Text; Int; Text; Text, 3]),
        // LeaveGroup
        13 => RequestShape(4, fields![Text; Text, 0 - 2; List(fields![Text; Text; Text, 5]), 3]),
        // SyncGroup
        14 => RequestShape(4, fields![Text; Int; Text; Text, 3; Text, 5; Text, 5; List(fields![Text; Blob])]),
        // DescribeGroups
        15 => RequestShape(5, fields![Items(&Text); Byte, 3]),
        // ListGroups
        16 => RequestShape(3, fields![Items(&Text), 4]),
        // SaslHandshake
        17 => RequestShape(NEVER, fields![Text]),
        // ApiVersions
        18 => RequestShape(3, fields![Text, 3; Text, 3]),
        // CreateTopics
        19 => RequestShape(
            5,
            fields![
                List(fields![
                    Text; Int; Short; List(fields![Int; Items(&Int)]); List(fields![Text; Text])
                ]);
                Int; Byte
            ],
        ),
        // DeleteTopics
        20 => RequestShape(4, fields![List(fields![Text; Uuid]), 6; Items(&Text), 1 - 5; Int]),
        // DeleteRecords
        21 => RequestShape(2, fields![List(fields![Text; List(fields![Int; Long])]); Int]),
        // InitProducerId
        22 => RequestShape(2, fields![Text; Int; Long, 3; Short, 3]),
        // OffsetForLeaderEpoch
        23 => RequestShape(4, fields![Int, 3; List(fields![Text; List(fields![Int; Int; Int])])]),
        // AddPartitionsToTxn
        24 => RequestShape(3, fields![Text; Long; Short; List(TOPIC_PARTITIONS)]),
        // AddOffsetsToTxn
        25 => RequestShape(3, fields![Text; Long; Short; Text]),
        // EndTxn
        26 => RequestShape(3, fields![Text; Long; Short; Byte]),
        // TxnOffsetCommit
        28 => RequestShape(
            3,
            fields![
                Text; Text; Long; Short; Int, 3; Text, 3; Text, 3;
                List(fields![Text; List(fields![Int; Long; Int, 2; Text])])
            ],
        ),
        // DescribeConfigs
        32 => RequestShape(4, fields![List(fields![Byte; Text; Items(&Text)]); Byte; Byte, 3]),
        // AlterConfigs
        33 => RequestShape(2, fields![List(fields![Byte; Text; List(fields![Text; Text])]); Byte]),
        // SaslAuthenticate
        36 => RequestShape(2, fields![Blob]),
        // AlterReplicaLogDirs
        34 => RequestShape(2, fields![List(fields![Text; List(TOPIC_PARTITIONS)])]),
        // DescribeLogDirs
        35 => RequestShape(2, fields![List(TOPIC_PARTITIONS)]),
        // CreatePartitions
        37 => RequestShape(2, fields![List(fields![Text; Int; List(fields![Items(&Int)])]); Int; Byte]),
        // DeleteGroups
        42 => RequestShape(2, fields![Items(&Text)]),
        // ElectLeaders
        43 => RequestShape(2, fields![Byte, 1; List(TOPIC_PARTITIONS); Int]),
        // IncrementalAlterConfigs
        44 => RequestShape(1, fields![List(fields![Byte; Text; List(fields![Text; Byte; Text])]); Byte]),
        // AlterPartitionReassignments
        45 => RequestShape(0, fields![Int; Byte, 1; List(fields![Text; List(fields![Int; Items(&Int)])])]),
        // ListPartitionReassignments
        46 => RequestShape(0, fields![Int; List(TOPIC_PARTITIONS)]),
        // OffsetDelete
        47 => RequestShape(NEVER, fields![Text; List(fields![Text; List(fields![Int])])]),
        // DescribeQuorum
        55 => RequestShape(0, fields![List(fields![Text; List(fields![Int])])]),
        // DescribeCluster
        60 => RequestShape(0, fields![Byte; Byte, 1]),
        // ConsumerGroupHeartbeat
        68 => RequestShape(
            0,
            fields![
                Text; Text; Int; Text; Text; Int; Items(&Text); Text, 1; Text;
                List(fields![Uuid; Items(&Int)])
            ],
        ),
        // ConsumerGroupDescribe
        69 => RequestShape(0, fields![Items(&Text); Byte]),
        // DescribeTopicPartitions
        75 => RequestShape(0, fields![List(fields![Text]); Int; Maybe(fields![Text; Int])]),
        _ => return None,
    })
}

/// Why a request is not what it should be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MalformedRequest;

/// How many of the bytes after the request's header are a request of that key and version.
///
/// # Errors
/// When they are none, or too many elements are in it.
pub fn check(key: i16, version: i16, body: &[u8]) -> Result<usize, MalformedRequest> {
    let RequestShape(flexible, fields) = shape(key).ok_or(MalformedRequest)?;
    let mut walk = RequestWalker { rest: body, version, flexible: version >= flexible, elements: 0 };
    walk.structure(fields)?;
    Ok(body.len() - walk.rest.len())
}

/// Skips the tagged fields at the start of `bytes`, as a request's header has.
///
/// # Errors
/// When there are more than bytes, or fields without end.
pub fn skip_tags(bytes: &[u8]) -> Result<&[u8], MalformedRequest> {
    let mut walk = RequestWalker { rest: bytes, version: 0, flexible: true, elements: 0 };
    walk.tags(&[])?;
    Ok(walk.rest)
}

struct RequestWalker<'a> {
    rest: &'a [u8],
    version: i16,
    flexible: bool,
    elements: usize,
}

impl RequestWalker<'_> {
    fn skip(&mut self, count: usize) -> Result<(), MalformedRequest> {
        self.rest = self.rest.get(count..).ok_or(MalformedRequest)?;
        Ok(())
    }

    fn fixed<const N: usize>(&mut self) -> Result<[u8; N], MalformedRequest> {
        let (head, rest) = self.rest.split_first_chunk::<N>().ok_or(MalformedRequest)?;
        self.rest = rest;
        Ok(*head)
    }

    /// An unsigned number of seven bits a byte, of at most 32 bits.
    fn varint(&mut self) -> Result<usize, MalformedRequest> {
        let mut value = 0u64;
        for shift in [0, 7, 14, 21, 28] {
            let [byte] = self.fixed()?;
            value |= u64::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return usize::try_from(value).ok().filter(|v| *v <= u32::MAX as usize).ok_or(MalformedRequest);
            }
        }
        Err(MalformedRequest)
    }

    /// A length; what is absent is zero long.
    fn length(&mut self, short: bool) -> Result<usize, MalformedRequest> {
        if self.flexible {
            return Ok(self.varint()?.saturating_sub(1));
        }
        let length =
            if short { i32::from(i16::from_be_bytes(self.fixed()?)) } else { i32::from_be_bytes(self.fixed()?) };
        if length == -1 { Ok(0) } else { usize::try_from(length).map_err(|_| MalformedRequest) }
    }

    fn count(&mut self, more: usize) -> Result<(), MalformedRequest> {
        self.elements = self.elements.saturating_add(more);
        if self.elements > MAX_ELEMENTS { Err(MalformedRequest) } else { Ok(()) }
    }

    fn tags(&mut self, fields: &[Field]) -> Result<(), MalformedRequest> {
        let tags = self.varint()?;
        self.count(tags)?;
        for _ in 0..tags {
            let tag = self.varint()?;
            let length = self.varint()?;
            let known = fields.iter().find_map(|field| match field {
                Field(Tagged(of, kind), ..) if *of == tag => Some(kind),
                _ => None,
            });
            let before = self.rest.len();
            match known {
                Some(kind) => self.value(kind)?,
                None => self.skip(length)?,
            }
            if before - self.rest.len() != length {
                return Err(MalformedRequest);
            }
        }
        Ok(())
    }

    fn structure(&mut self, fields: &[Field]) -> Result<(), MalformedRequest> {
        for Field(kind, from, to) in fields {
            if (*from..=*to).contains(&self.version) {
                self.value(kind)?;
            }
        }
        if self.flexible { self.tags(fields) } else { Ok(()) }
    }

    fn value(&mut self, kind: &FieldKind) -> Result<(), MalformedRequest> {
        match kind {
            Byte => self.skip(1),
            Short => self.skip(2),
            Int => self.skip(4),
            Long => self.skip(8),
            Uuid => self.skip(16),
            Text => {
                let length = self.length(true)?;
                self.skip(length)
            }
            Blob => {
                let length = self.length(false)?;
                self.skip(length)
            }
            List(fields) => {
                let length = self.length(false)?;
                self.count(length)?;
                (0..length).try_for_each(|_| self.structure(fields))
            }
            Maybe(fields) => match self.fixed()? {
                [1] => self.structure(fields),
                _ => Ok(()),
            },
            Items(kind) => {
                let length = self.length(false)?;
                self.count(length)?;
                (0..length).try_for_each(|_| self.value(kind))
            }
            // In its place among the other tags.
            Tagged(..) => Ok(()),
        }
    }
}
