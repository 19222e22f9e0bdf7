//! rust-rdkafka behind the command line that harness/foreign.py drives: write, read, join, admin.

use std::error::Error;
use std::io::BufRead;
use std::time::Duration;

use rdkafka::admin::{
    AdminClient, AdminOptions, AlterConfig, NewTopic, ResourceSpecifier, TopicReplication,
};
use rdkafka::client::DefaultClientContext;
use rdkafka::config::ClientConfig;
use rdkafka::consumer::{CommitMode, Consumer, StreamConsumer};
use rdkafka::message::{BorrowedMessage, Message};
use rdkafka::producer::{FutureProducer, FutureRecord};
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};
use serde_json::{Value, json};
use tokio::task::JoinSet;

type Outcome = Result<(), Box<dyn Error>>;

const WAIT: Duration = Duration::from_secs(30);

fn step(name: &str, found: impl Into<Value>) {
    println!("{}", json!({"event": "step", "name": name, "found": found.into()}));
}

fn connect(kafka: &str) -> ClientConfig {
    let mut config = ClientConfig::new();
    config.set("bootstrap.servers", kafka);
    config
}

async fn write(kafka: &str, topic: &str, codec: &str) -> Outcome {
    let producer: FutureProducer = connect(kafka)
        .set("enable.idempotence", "true")
        .set("compression.type", codec)
        .set("message.timeout.ms", "120000")
        .create()?;
    let mut reports = JoinSet::new();
    for line in std::io::stdin().lock().lines() {
        let value = line?;
        let report = producer
            .send_result(FutureRecord::<(), str>::to(topic).payload(&value))
            .map_err(|(error, _)| error)?;
        reports.spawn(async move {
            let event = match report.await {
                Ok(Ok(found)) => json!({"event": "acked", "value": value, "offset": found.offset}),
                Ok(Err((error, _))) => {
                    json!({"event": "refused", "value": value, "error": error.to_string()})
                }
                Err(_) => json!({"event": "refused", "value": value, "error": "forgotten"}),
            };
            println!("{event}");
        });
    }
    while reports.join_next().await.is_some() {}
    Ok(())
}

fn say_read(message: &BorrowedMessage<'_>) {
    let value = String::from_utf8_lossy(message.payload().unwrap_or_default());
    println!(
        "{}",
        json!({"event": "read", "topic": message.topic(), "offset": message.offset(), "value": value})
    );
}

async fn read(kafka: &str, topic: &str, count: usize) -> Outcome {
    let consumer: StreamConsumer =
        connect(kafka).set("group.id", "unused").set("enable.auto.commit", "false").create()?;
    let mut start = TopicPartitionList::new();
    start.add_partition_offset(topic, 0, Offset::Beginning)?;
    consumer.assign(&start)?;
    let mut left = count;
    while left > 0 {
        match consumer.recv().await {
            Ok(message) => {
                say_read(&message);
                left -= 1;
            }
            // librdkafka goes on by itself, and only tells that a connection was lost.
            Err(error) => eprintln!("{error}"),
        }
    }
    Ok(())
}

async fn join(kafka: &str, group: &str, name: &str, topics: &[&str]) -> Outcome {
    let consumer: StreamConsumer = connect(kafka)
        .set("client.id", name)
        .set("group.id", group)
        .set("auto.offset.reset", "earliest")
        .set("enable.auto.commit", "false")
        .set("session.timeout.ms", "6000")
        .set("heartbeat.interval.ms", "500")
        .set("partition.assignment.strategy", "roundrobin")
        .create()?;
    consumer.subscribe(topics)?;
    let leave = tokio::task::spawn_blocking(|| {
        std::io::copy(&mut std::io::stdin().lock(), &mut std::io::sink())
    });
    tokio::pin!(leave);
    loop {
        tokio::select! {
            _ = &mut leave => return Ok(()),
            found = consumer.recv() => match found {
                Ok(message) => {
                    say_read(&message);
                    if let Err(error) = consumer.commit_message(&message, CommitMode::Sync) {
                        eprintln!("{error}");
                    }
                }
                Err(error) => eprintln!("{error}"),
            },
        }
    }
}

async fn admin(kafka: &str, topic: &str, group: &str) -> Outcome {
    let admin: AdminClient<DefaultClientContext> = connect(kafka).create()?;
    let options = AdminOptions::new().operation_timeout(Some(WAIT));
    let wanted =
        NewTopic::new(topic, 1, TopicReplication::Fixed(-1)).set("retention.ms", "7200000");
    one(admin.create_topics([&wanted], &options).await?)?;
    let metadata = admin.inner().fetch_metadata(Some(topic), WAIT)?;
    step("partitions", metadata.topics()[0].partitions().len());
    let again = one(admin.create_topics([&wanted], &options).await?);
    step("created twice", word(again));

    describe(&admin, topic, "retention").await?;
    let change = AlterConfig::new(ResourceSpecifier::Topic(topic)).set("retention.ms", "3600000");
    admin.alter_configs([&change], &options).await?.remove(0).map_err(|(_, code)| code.to_string())?;
    describe(&admin, topic, "retention altered").await?;

    let listed = admin.inner().fetch_group_list(None, WAIT)?;
    let found = listed.groups().iter().find(|one| one.name() == group);
    step("group is listed", found.is_some());
    step("group", found.map(|one| one.state()));
    one(admin.delete_groups(&[group], &options).await?)?;
    step("group deleted twice", word(one(admin.delete_groups(&[group], &options).await?)));

    one(admin.delete_topics(&[topic], &options).await?)?;
    let metadata = admin.inner().fetch_metadata(None, WAIT)?;
    step("topic is listed", metadata.topics().iter().any(|one| one.name() == topic));
    Ok(())
}

async fn describe(admin: &AdminClient<DefaultClientContext>, topic: &str, name: &str) -> Outcome {
    let mut found = admin
        .describe_configs([&ResourceSpecifier::Topic(topic)], &AdminOptions::new())
        .await?;
    let configs = found.remove(0).map_err(|code| code.to_string())?;
    step(name, configs.get("retention.ms").and_then(|entry| entry.value.clone()));
    Ok(())
}

/// The result of the one thing that was asked for; its error is the name of the code.
fn one(mut results: Vec<rdkafka::admin::TopicResult>) -> Result<String, String> {
    results.remove(0).map_err(|(_, code)| format!("{code:?}"))
}

/// As Kafka writes the codes that the tests ask for.
fn word(result: Result<String, String>) -> String {
    match result.err().as_deref() {
        None => "NONE".into(),
        Some("TopicAlreadyExists") => "TOPIC_ALREADY_EXISTS".into(),
        Some("GroupIdNotFound") => "GROUP_ID_NOT_FOUND".into(),
        Some(other) => other.into(),
    }
}

#[tokio::main]
async fn main() -> Outcome {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match words.as_slice() {
        ["write", kafka, topic, codec] => write(kafka, topic, codec).await?,
        ["read", kafka, topic, count] => read(kafka, topic, count.parse()?).await?,
        ["join", kafka, group, name, topics @ ..] => join(kafka, group, name, topics).await?,
        ["admin", kafka, topic, group] => admin(kafka, topic, group).await?,
        _ => return Err(format!("write|read|join|admin KAFKA …, not {words:?}").into()),
    }
    std::process::exit(0) // a thread may still wait for the input to end
}
