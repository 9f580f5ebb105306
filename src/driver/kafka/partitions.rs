//! librdkafka's list of topic partitions with an offset each: what is assigned, committed or asked
//! for.

use std::ffi::CString;
use std::ptr::NonNull;

use rdkafka::bindings as rd;
use rdkafka::types::RDKafkaRespErr as Code;

/// librdkafka's RD_KAFKA_PARTITION_UA: the partition is yet to be chosen.
pub(super) const UNASSIGNED: i32 = -1;

#[derive(Debug)]
pub(super) struct Partitions(NonNull<rd::rd_kafka_topic_partition_list_t>);

// SAFETY: the list is ours alone.
unsafe impl Send for Partitions {}

impl Partitions {
    pub(super) fn new() -> Self {
        // SAFETY: librdkafka ends the process rather than return null.
        Self(NonNull::new(unsafe { rd::rd_kafka_topic_partition_list_new(8) }).expect("librdkafka allocates or aborts"))
    }

    /// All partitions of a topic, at the offsets given.
    pub(super) fn of(topic: &str, offsets: impl IntoIterator<Item = (i32, i64)>) -> Self {
        let mut list = Self::new();
        offsets.into_iter().for_each(|(partition, offset)| list.add(topic, partition, offset));
        list
    }

    /// A list that librdkafka made for us.
    pub(super) fn from_raw(raw: *mut rd::rd_kafka_topic_partition_list_t) -> Self {
        NonNull::new(raw).map_or_else(Self::new, Self)
    }

    pub(super) fn add(&mut self, topic: &str, partition: i32, offset: i64) {
        let topic = CString::new(topic).unwrap_or_default();
        // SAFETY: list and string are valid; the name is copied; the returned element lives in the
        // list.
        unsafe { (*rd::rd_kafka_topic_partition_list_add(self.raw(), topic.as_ptr(), partition)).offset = offset };
    }

    /// Subscribes to a whole topic: the partition is librdkafka's "unassigned".
    pub(super) fn topic(name: &str) -> Self {
        Self::of(name, [(UNASSIGNED, 0)])
    }

    pub(super) fn raw(&self) -> *mut rd::rd_kafka_topic_partition_list_t {
        self.0.as_ptr()
    }

    fn elements(&self) -> &[rd::rd_kafka_topic_partition_t] {
        // SAFETY: `elems` points at `cnt` elements, or is null when there is none.
        unsafe {
            let list = self.0.as_ref();
            if list.cnt <= 0 { &[] } else { std::slice::from_raw_parts(list.elems, list.cnt as usize) }
        }
    }

    pub(super) fn len(&self) -> usize {
        self.elements().len()
    }

    /// Partition and offset of each.
    pub(super) fn offsets(&self) -> impl Iterator<Item = (i32, i64)> {
        self.elements().iter().map(|e| (e.partition, e.offset))
    }

    /// The first error that stands at one of them.
    pub(super) fn error(&self) -> Option<Code> {
        self.elements().iter().map(|e| e.err).find(|err| *err != Code::RD_KAFKA_RESP_ERR_NO_ERROR)
    }
}

impl Drop for Partitions {
    fn drop(&mut self) {
        // SAFETY: the list is ours and destroyed once.
        unsafe { rd::rd_kafka_topic_partition_list_destroy(self.raw()) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_gives_back_what_was_put_in() {
        let list = Partitions::of("t", [(0, 5), (3, -1)]);
        assert_eq!(list.len(), 2);
        assert_eq!(list.offsets().collect::<Vec<_>>(), [(0, 5), (3, -1)]);
        assert_eq!(list.error(), None);
        assert_eq!(Partitions::topic("t").offsets().next(), Some((-1, 0)));
    }
}
