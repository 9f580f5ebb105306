//! Access lists of a launched Kafka: the trial's clients get the right to what they make, and
//! nobody else gets any.
//!
//! # Design
//! The lists are made over the listener between brokers, whose user is a super user. A broker
//! applies them when it has read them in the metadata: each is asked until it knows all.

use std::net::SocketAddrV4;
use std::time::{Duration, Instant};

use kafka_protocol::messages::create_acls_request::AclCreation;
use kafka_protocol::messages::{CreateAclsRequest, DescribeAclsRequest};
use kafka_protocol::protocol::StrBytes;

use super::ask::{ask, named};
use super::options::Ports;

/// The version of both requests.
const VERSION: i16 = 1;
/// Pause between two looks.
const POLL: Duration = Duration::from_millis(20);

// Kafka's numbers (org.apache.kafka.common.resource, .acl).
const ANY: i8 = 1;
const TOPIC: i8 = 2;
const GROUP: i8 = 3;
const CLUSTER: i8 = 4;
const TRANSACTIONAL_ID: i8 = 5;
const LITERAL: i8 = 3;
const PREFIXED: i8 = 4;
const ALL: i8 = 2;
const DESCRIBE: i8 = 8;
const DESCRIBE_CONFIGS: i8 = 10;
const ALLOW: i8 = 3;

/// What the trial's clients may: everything with names of theirs, and to look at the cluster.
const RIGHTS: [(i8, &str, i8, i8); 6] = [
    (TOPIC, "mb-", PREFIXED, ALL),
    // Dead letters of their share groups.
    (TOPIC, "dlq.mb-", PREFIXED, ALL),
    (GROUP, "mb-", PREFIXED, ALL),
    (TRANSACTIONAL_ID, "mb-", PREFIXED, ALL),
    (CLUSTER, "kafka-cluster", LITERAL, DESCRIBE),
    (CLUSTER, "kafka-cluster", LITERAL, DESCRIBE_CONFIGS),
];

/// Gives `principal` (`User:name`) the rights of a trial's clients, and waits until every broker
/// knows.
///
/// # Errors
/// In the broker's words.
pub(super) fn grant(brokers: &[Ports], principal: &str, deadline: Instant) -> Result<(), String> {
    let text = |text: &str| StrBytes::from_string(text.to_owned());
    let creations = RIGHTS.map(|(kind, name, pattern, operation)| {
        AclCreation::default()
            .with_resource_type(kind)
            .with_resource_name(text(name))
            .with_resource_pattern_type(pattern)
            .with_principal(text(principal))
            .with_host(text("*"))
            .with_operation(operation)
            .with_permission_type(ALLOW)
    });
    let request = CreateAclsRequest::default().with_creations(creations.to_vec());
    let Some(first) = brokers.first() else { return Ok(()) };
    let answer = ask(first.between_brokers(), &request, VERSION, deadline)
        .map_err(|words| format!("cannot make access lists: {words}"))?;
    if let Some(failed) = answer.results.iter().find(|r| r.error_code != 0) {
        let words = failed.error_message.as_ref().map_or_else(|| named(failed.error_code), ToString::to_string);
        return Err(format!("the broker makes no access lists: {words}"));
    }
    for broker in brokers {
        known(broker.between_brokers(), deadline)?;
    }
    Ok(())
}

/// Waits until a broker knows all rights.
fn known(at: SocketAddrV4, deadline: Instant) -> Result<(), String> {
    let everything = DescribeAclsRequest::default()
        .with_resource_type_filter(ANY)
        // An empty name would be a name.
        .with_resource_name_filter(None)
        .with_principal_filter(None)
        .with_host_filter(None)
        .with_pattern_type_filter(ANY)
        .with_operation(ANY)
        .with_permission_type(ANY);
    loop {
        let answer =
            ask(at, &everything, VERSION, deadline).map_err(|words| format!("cannot read access lists: {words}"))?;
        let found: usize = answer.resources.iter().map(|r| r.acls.len()).sum();
        if answer.error_code == 0 && found >= RIGHTS.len() {
            return Ok(());
        }
        if Instant::now() >= deadline {
            let words = format!("{found} of {} access lists, {}", RIGHTS.len(), named(answer.error_code));
            return Err(format!("the broker at {at} does not know its access lists: {words}"));
        }
        std::thread::sleep(POLL);
    }
}
