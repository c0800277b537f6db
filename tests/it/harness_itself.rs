//! The harness, tried on a plain client: a receiver that misleads would make every other test mislead.

use tokio::task::JoinSet;

use crate::harness::{Gate, Receiver, Reply};

fn client() -> reqwest::Client {
    drop(crate::harness::Api::new("installs the crypto library"));
    reqwest::Client::builder().no_proxy().build().expect("a plain client can be built")
}

#[tokio::test]
async fn a_receiver_keeps_arrivals_and_plays_its_script() {
    let receiver = Receiver::start().await;
    receiver.script("/a", vec![Reply::status(503).with("retry-after", "2"), Reply::status(201)]);
    let client = client();
    for wanted in [503, 201, 201] {
        let answer = client.post(receiver.url("/a")).body("x").send().await.unwrap();
        assert_eq!(answer.status().as_u16(), wanted);
        assert_eq!(answer.headers().contains_key("retry-after"), wanted == 503);
    }
    client.get(receiver.url("/b?c=1")).send().await.unwrap();
    assert_eq!(receiver.nth_at("/a", 3).await.body, "x");
    assert_eq!(receiver.nth(4).await.path, "/b");
    assert_eq!((receiver.count(), receiver.at("/a").len()), (4, 3));
}

#[tokio::test]
async fn a_receiver_holds_drops_and_floods() {
    let receiver = Receiver::start().await;
    let gate = Gate::closed();
    receiver.always("/held", Reply::ok().after(&gate));
    receiver.always("/dropped", Reply::Drop);
    receiver.always("/flood", Reply::Body(1 << 20));
    let client = client();
    let held = JoinSet::from_iter([client.get(receiver.url("/held")).send()]);
    let arrival = receiver.nth(1).await;
    assert_eq!(client.get(receiver.url("/other")).send().await.unwrap().status(), 200, "others are answered");
    assert_eq!(arrival.left_at(), None, "a closed gate holds the answer");
    gate.open();
    assert_eq!(held.join_all().await.remove(0).unwrap().status(), 200);
    assert!(client.get(receiver.url("/dropped")).send().await.is_err());
    let flood = client.get(receiver.url("/flood")).send().await.unwrap();
    assert_eq!(flood.bytes().await.unwrap().len(), 1 << 20);
    assert_eq!(receiver.count(), 4);
}
