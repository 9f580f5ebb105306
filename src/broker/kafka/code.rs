//! The error codes of the protocol that this broker answers with.

use super::super::log::LogError;

pub(super) const NONE: i16 = 0;
pub(super) const OFFSET_OUT_OF_RANGE: i16 = 1;
pub(super) const CORRUPT_MESSAGE: i16 = 2;
pub(super) const UNKNOWN_TOPIC_OR_PARTITION: i16 = 3;
pub(super) const REQUEST_TIMED_OUT: i16 = 7;
pub(super) const MESSAGE_TOO_LARGE: i16 = 10;
pub(super) const OFFSET_METADATA_TOO_LARGE: i16 = 12;
pub(super) const COORDINATOR_NOT_AVAILABLE: i16 = 15;
pub(super) const INVALID_TOPIC: i16 = 17;
pub(super) const INVALID_REQUIRED_ACKS: i16 = 21;
pub(super) const ILLEGAL_GENERATION: i16 = 22;
pub(super) const INCONSISTENT_GROUP_PROTOCOL: i16 = 23;
pub(super) const INVALID_GROUP_ID: i16 = 24;
pub(super) const UNKNOWN_MEMBER_ID: i16 = 25;
pub(super) const INVALID_SESSION_TIMEOUT: i16 = 26;
pub(super) const REBALANCE_IN_PROGRESS: i16 = 27;
pub(super) const INVALID_TIMESTAMP: i16 = 32;
pub(super) const UNSUPPORTED_SASL_MECHANISM: i16 = 33;
pub(super) const ILLEGAL_SASL_STATE: i16 = 34;
pub(super) const UNSUPPORTED_VERSION: i16 = 35;
pub(super) const TOPIC_ALREADY_EXISTS: i16 = 36;
pub(super) const INVALID_PARTITIONS: i16 = 37;
pub(super) const INVALID_REPLICATION_FACTOR: i16 = 38;
pub(super) const INVALID_REPLICA_ASSIGNMENT: i16 = 39;
pub(super) const INVALID_CONFIG: i16 = 40;
pub(super) const INVALID_REQUEST: i16 = 42;
pub(super) const UNSUPPORTED_FOR_MESSAGE_FORMAT: i16 = 43;
pub(super) const POLICY_VIOLATION: i16 = 44;
pub(super) const OUT_OF_ORDER_SEQUENCE_NUMBER: i16 = 45;
pub(super) const INVALID_PRODUCER_EPOCH: i16 = 47;
pub(super) const INVALID_TXN_STATE: i16 = 48;
pub(super) const INVALID_PRODUCER_ID_MAPPING: i16 = 49;
pub(super) const INVALID_TRANSACTION_TIMEOUT: i16 = 50;
pub(super) const CONCURRENT_TRANSACTIONS: i16 = 51;
pub(super) const TRANSACTIONAL_ID_AUTHORIZATION_FAILED: i16 = 53;
pub(super) const OPERATION_NOT_ATTEMPTED: i16 = 55;
pub(super) const KAFKA_STORAGE_ERROR: i16 = 56;
pub(super) const LOG_DIR_NOT_FOUND: i16 = 57;
pub(super) const SASL_AUTHENTICATION_FAILED: i16 = 58;
pub(super) const NON_EMPTY_GROUP: i16 = 68;
pub(super) const GROUP_ID_NOT_FOUND: i16 = 69;
pub(super) const FETCH_SESSION_ID_NOT_FOUND: i16 = 70;
pub(super) const INVALID_FETCH_SESSION_EPOCH: i16 = 71;
pub(super) const FENCED_LEADER_EPOCH: i16 = 74;
pub(super) const UNKNOWN_LEADER_EPOCH: i16 = 75;
pub(super) const MEMBER_ID_REQUIRED: i16 = 79;
pub(super) const GROUP_MAX_SIZE_REACHED: i16 = 81;
pub(super) const FENCED_INSTANCE_ID: i16 = 82;
pub(super) const ELECTION_NOT_NEEDED: i16 = 84;
pub(super) const NO_REASSIGNMENT_IN_PROGRESS: i16 = 85;
pub(super) const GROUP_SUBSCRIBED_TO_TOPIC: i16 = 86;
pub(super) const INVALID_RECORD: i16 = 87;
pub(super) const UNSTABLE_OFFSET_COMMIT: i16 = 88;
pub(super) const PRODUCER_FENCED: i16 = 90;
pub(super) const UNKNOWN_TOPIC_ID: i16 = 100;
pub(super) const FENCED_MEMBER_EPOCH: i16 = 110;
pub(super) const UNRELEASED_INSTANCE_ID: i16 = 111;
pub(super) const UNSUPPORTED_ASSIGNOR: i16 = 112;
pub(super) const STALE_MEMBER_EPOCH: i16 = 113;
pub(super) const INVALID_REGULAR_EXPRESSION: i16 = 128;

/// What the protocol calls an error of the log.
pub(super) fn of(error: &LogError) -> i16 {
    match error {
        LogError::Io { .. } | LogError::Damaged { .. } | LogError::InUse(_) => KAFKA_STORAGE_ERROR,
        LogError::OutOfRange { .. } => OFFSET_OUT_OF_RANGE,
        LogError::Malformed(_) => CORRUPT_MESSAGE,
        LogError::TooLarge { .. } => MESSAGE_TOO_LARGE,
        LogError::OutOfSequence { .. } => OUT_OF_ORDER_SEQUENCE_NUMBER,
        LogError::Fenced { .. } => INVALID_PRODUCER_EPOCH,
        LogError::Transaction { .. } => INVALID_TXN_STATE,
        LogError::Deleted | LogError::Unknown(_) => UNKNOWN_TOPIC_OR_PARTITION,
        LogError::Exists(_) => TOPIC_ALREADY_EXISTS,
        LogError::Limit { .. } => POLICY_VIOLATION,
    }
}
