//! Priority groups of pull consumers: who is served first, and who takes over.

use std::time::{Duration, Instant};

use crate::support::*;
use msgbench::driver::jetstream::JetstreamDriver;
use msgbench::driver::{ClientSlot, Disposition, Driver, Start};
use serde_json::{Value, json};

const SEATS: [ClientSlot; 2] =
    [ClientSlot { workload: 0, group: 0, index: 0 }, ClientSlot { workload: 0, group: 0, index: 1 }];
const CONSUMER: &str = "CONSUMER.INFO.MSGBENCH_abcd0123_0.g0";

fn launch() -> Option<Server> {
    crate::needs::since("nats", "2.11")?;
    Server::launch("jetstream", json!({}))
}

async fn open(server: &Server, options: Value) -> JetstreamDriver {
    JetstreamDriver::prepare(server.target(options), &workloads("queue-group", "consumers = 2")).await.unwrap()
}

/// Waits until the server knows `n` open pulls.
async fn waiting(server: &Server, n: u64) {
    let until = Instant::now() + TIMEOUT;
    while server.api(CONSUMER, "").await["num_waiting"] != n {
        assert!(Instant::now() < until, "{n} pulls within {TIMEOUT:?}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

fn tokens(range: std::ops::Range<u64>) -> Vec<String> {
    range.map(message).collect()
}

#[tokio::test]
async fn one_consumer_is_pinned_until_it_is_gone() {
    const PINNED: Duration = Duration::from_secs(2);
    let Some(server) = launch() else { return };
    for consumer in ["pull", "fetch"] {
        let options = json!({
            "priority-policy": "pinned-client", "priority-timeout": "2s", "consumer": consumer, "batch": 10 });
        let driver = open(&server, options).await;
        let words = driver.facts().words();
        assert_eq!((&*words["priority_policy"], &*words["priority_timeout"]), ("pinned_client", "2s"));
        let mut first = driver.consumer(SEATS[0], Start::Tail).await.unwrap();
        let mut second = driver.consumer(SEATS[1], Start::Tail).await.unwrap();
        let (mut one, mut two) = (Collector::new(accept), Collector::new(accept));
        // The first to ask is the one that is pinned.
        hear_for(&mut first, &mut one, Duration::from_millis(1)).await;
        waiting(&server, 1).await;
        hear_for(&mut second, &mut two, Duration::from_millis(1)).await;
        waiting(&server, 2).await;
        let mut producer = driver.producer(SEATS[0]).await.unwrap();
        // Longer than the time of a pin, and many pulls: it asks often enough to keep it.
        for part in 0..6 {
            send(&mut producer, part * 50..(part + 1) * 50).await;
            hear(&mut first, &mut one, (part as usize + 1) * 50, 0).await;
            let (one, two) = (&mut one, &mut two);
            let pause = Duration::from_millis(500);
            tokio::join!(hear_for(&mut first, one, pause), hear_for(&mut second, two, pause));
        }
        assert_eq!(one.texts(), tokens(0..300));
        assert!(two.heard.is_empty(), "{consumer}: {} went to the second", two.heard.len());
        drop(first);
        let gone = Instant::now();
        // What is sent to a client that is going would come again much later.
        waiting(&server, 1).await;
        send(&mut producer, 300..400).await;
        hear(&mut second, &mut two, 100, 0).await;
        let took = gone.elapsed();
        println!("{consumer}: the other consumer took over after {took:?}");
        assert_eq!(two.texts(), tokens(300..400));
        // Below the 30 s after which the server would deliver again what the first one had.
        assert!(took < PINNED + Duration::from_secs(15), "{consumer}: {took:?}");
        driver.cleanup().await.unwrap();
    }
}

#[tokio::test]
async fn a_consumer_that_lost_its_pin_asks_again_without_it() {
    let Some(server) = launch() else { return };
    let options = json!({ "priority-policy": "pinned-client", "batch": 4 });
    let driver = open(&server, options).await;
    let mut first = driver.consumer(SEATS[0], Start::Tail).await.unwrap();
    let mut producer = driver.producer(SEATS[0]).await.unwrap();
    let mut one = Collector::new(accept);
    send(&mut producer, 0..20).await;
    hear(&mut first, &mut one, 20, 0).await;
    // An operator takes the pin away.
    let unpin = "CONSUMER.UNPIN.MSGBENCH_abcd0123_0.g0";
    let answer = server.api(unpin, "{\"group\":\"msgbench\"}").await;
    assert!(answer["error"].is_null(), "{answer}");
    send(&mut producer, 20..60).await;
    hear(&mut first, &mut one, 60, 0).await;
    assert_eq!(one.texts(), tokens(0..60));
    let log = driver.incidents().take_log();
    let noted = |text: &str| log.iter().filter(|(.., words)| words.contains(text)).count();
    assert_eq!((noted("is not pinned any more"), noted("is pinned:")), (1, 2), "{log:?}");
    driver.cleanup().await.unwrap();
}

#[tokio::test]
async fn the_others_get_what_overflows() {
    let Some(server) = launch() else { return };
    // (option, whether the first one acknowledges)
    for bound in ["min-pending", "min-ack-pending"] {
        let driver = open(&server, json!({ "priority-policy": "overflow", bound: 20, "batch": 5 })).await;
        let mut first = driver.consumer(SEATS[0], Start::Tail).await.unwrap();
        let mut second = driver.consumer(SEATS[1], Start::Tail).await.unwrap();
        let mut producer = driver.producer(SEATS[0]).await.unwrap();
        let mut one = Collector::new(|_, _| Disposition::Hold);
        let mut two = Collector::new(accept);
        hear_for(&mut second, &mut two, Duration::from_millis(1)).await;
        waiting(&server, 1).await;
        // Below the bound nothing goes to the second, whoever waits.
        send(&mut producer, 0..15).await;
        hear_for(&mut second, &mut two, Duration::from_secs(1)).await;
        assert!(two.heard.is_empty(), "{bound}: {:?}", two.texts());
        if bound == "min-pending" {
            // Above it, all that is more than the bound.
            send(&mut producer, 15..60).await;
            hear(&mut second, &mut two, 41, 0).await;
            hear_for(&mut second, &mut two, Duration::from_millis(500)).await;
            assert_eq!(two.texts(), tokens(0..41), "{bound}");
            hear(&mut first, &mut one, 19, 0).await;
            assert_eq!(one.texts(), tokens(41..60), "{bound}");
        } else {
            // The first one has 20 that it has not acknowledged: the second helps.
            send(&mut producer, 15..20).await;
            hear(&mut first, &mut one, 20, 0).await;
            drop(first);
            send(&mut producer, 20..40).await;
            hear(&mut second, &mut two, 20, 0).await;
            assert_eq!(two.texts(), tokens(20..40), "{bound}");
        }
        driver.cleanup().await.unwrap();
    }
}

/// Of those that wait, the one with the lowest number is served, whoever asked first.
#[tokio::test]
async fn the_first_of_a_group_is_served_before_the_second_where_both_wait() {
    if crate::needs::since("nats", "2.12").is_none() {
        return;
    }
    let Some(server) = Server::launch("jetstream", json!({})) else { return };
    for late in [0, 1] {
        let driver = open(&server, json!({ "priority-policy": "prioritized", "consumer": "fetch", "batch": 10 })).await;
        assert_eq!(driver.facts().words()["priority_policy"], "prioritized");
        let mut consumers = Vec::new();
        for slot in SEATS {
            consumers.push(driver.consumer(slot, Start::Tail).await.unwrap());
        }
        let mut heard = [Collector::new(accept), Collector::new(accept)];
        for (n, index) in [1 - late, late].into_iter().enumerate() {
            hear_for(&mut consumers[index], &mut heard[index], Duration::from_millis(1)).await;
            waiting(&server, n as u64 + 1).await;
        }
        // The first one is asked for its ten before the other has anything.
        let mut producer = driver.producer(SEATS[0]).await.unwrap();
        send(&mut producer, 0..20).await;
        waiting(&server, 0).await;
        let [first, second] = consumers.as_mut_slice() else { unreachable!() };
        let [one, two] = &mut heard;
        // No longer than until these are here: it would ask for more.
        hear(first, one, 10, 0).await;
        hear(second, two, 10, 0).await;
        assert_eq!(one.texts(), tokens(0..10), "{late} asked last");
        assert_eq!(two.texts(), tokens(10..20), "{late} asked last");
        driver.cleanup().await.unwrap();
    }
}
