//! Access lists of a launched Kafka: the trial's clients get the right to what they make, and
//! nobody else gets any.
//!
//! # Design
//! The lists are made over the listener between brokers, whose user is a super user. A broker
//! applies them when it has read them in the metadata: each is asked until it knows all.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpStream};
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use kafka_protocol::ResponseError;
use kafka_protocol::messages::create_acls_request::AclCreation;
use kafka_protocol::messages::{CreateAclsRequest, DescribeAclsRequest, RequestHeader, ResponseHeader};
use kafka_protocol::protocol::{Decodable, Encodable, HeaderVersion, Request, StrBytes};

use super::options::Ports;

/// The version of both requests.
const VERSION: i16 = 1;
/// The longest answer that is taken for one.
const MAX_ANSWER: usize = 1 << 20;
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
    let answer = ask(first.broker, &request, deadline).map_err(|words| format!("cannot make access lists: {words}"))?;
    if let Some(failed) = answer.results.iter().find(|r| r.error_code != 0) {
        let words = failed.error_message.as_ref().map_or_else(|| named(failed.error_code), ToString::to_string);
        return Err(format!("the broker makes no access lists: {words}"));
    }
    for broker in brokers {
        known(broker.broker, deadline)?;
    }
    Ok(())
}

/// Waits until a broker knows all rights.
fn known(port: u16, deadline: Instant) -> Result<(), String> {
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
        let answer = ask(port, &everything, deadline).map_err(|words| format!("cannot read access lists: {words}"))?;
        let found: usize = answer.resources.iter().map(|r| r.acls.len()).sum();
        if answer.error_code == 0 && found >= RIGHTS.len() {
            return Ok(());
        }
        if Instant::now() >= deadline {
            let words = format!("{found} of {} access lists, {}", RIGHTS.len(), named(answer.error_code));
            return Err(format!("the broker at port {port} does not know its access lists: {words}"));
        }
        std::thread::sleep(POLL);
    }
}

fn named(code: i16) -> String {
    ResponseError::try_from_code(code).map_or_else(|| "no error".to_owned(), |error| error.to_string())
}

/// One request and its answer on a connection of their own.
fn ask<R: Request>(port: u16, request: &R, deadline: Instant) -> Result<R::Response, String> {
    let left = deadline.saturating_duration_since(Instant::now()).max(Duration::from_millis(100));
    let exchange = || -> std::io::Result<Bytes> {
        let mut stream = TcpStream::connect_timeout(&(Ipv4Addr::LOCALHOST, port).into(), left)?;
        stream.set_read_timeout(Some(left))?;
        stream.set_write_timeout(Some(left))?;
        let mut body = BytesMut::new();
        let header = RequestHeader::default().with_request_api_key(R::KEY).with_request_api_version(VERSION);
        header.encode(&mut body, R::header_version(VERSION)).map_err(std::io::Error::other)?;
        request.encode(&mut body, VERSION).map_err(std::io::Error::other)?;
        let length = u32::try_from(body.len()).map_err(std::io::Error::other)?;
        stream.write_all(&[&length.to_be_bytes()[..], &body].concat())?;
        let mut length = [0; 4];
        stream.read_exact(&mut length)?;
        let length = u32::from_be_bytes(length) as usize;
        if length > MAX_ANSWER {
            return Err(std::io::Error::other(format!("an answer of {length} B")));
        }
        let mut answer = vec![0; length];
        stream.read_exact(&mut answer)?;
        Ok(answer.into())
    };
    let mut answer = exchange().map_err(|e| format!("127.0.0.1:{port}: {e}"))?;
    ResponseHeader::decode(&mut answer, R::Response::header_version(VERSION))
        .and_then(|_| R::Response::decode(&mut answer, VERSION))
        .map_err(|e| format!("127.0.0.1:{port}: an answer cannot be read: {e}"))
}
