//! A broker whose log is its memory: how soon a message can be with its consumer at best.
//!
//!     memory PORT BEHIND    answers Produce and Fetch itself; the broker at BEHIND everything else
//!
//! One topic at a time, the one that was last written to, which leaves the topic before behind.

use std::collections::HashMap;
use std::io;
use std::sync::{Condvar, LazyLock, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use walrus_peer::fields::{Fields, api_key, api_version, correlation_id, put_count};
use walrus_peer::produce::{self, Produce};
use walrus_peer::relay::{Server, serve};

const FETCH: i16 = 1;
const METADATA: i16 = 3;
/// The first that names topics by their ids.
const FETCH_VERSION_MIN: i16 = 13;
const METADATA_VERSION_MIN: i16 = 10;
/// Bytes of records in an answer, but for the first batch.
const FETCH_SIZE_MAX: usize = 1 << 20;

fn main() -> io::Result<()> {
    static MEMORY: LazyLock<Memory> = LazyLock::new(Memory::default);
    serve(&*MEMORY)
}

#[derive(Default)]
struct Memory {
    ids: Mutex<HashMap<Vec<u8>, Vec<u8>>>,
    log: Mutex<Log>,
    appended: Condvar,
}

/// Of the topic with this id.
#[derive(Default)]
struct Log {
    id: Vec<u8>,
    batches: Vec<Batch>,
}

struct Batch {
    end_offset: i64,
    records: Vec<u8>,
}

impl Server for Memory {
    fn answer(&self, request: &[u8]) -> Option<Vec<u8>> {
        match api_key(request) {
            produce::KEY => Some(self.append(&Produce::read(request))),
            FETCH => Some(self.fetch(request)),
            _ => None,
        }
    }

    fn overhear(&self, request: &[u8], reply: &[u8]) {
        if api_key(request) == METADATA
            && api_version(request) >= METADATA_VERSION_MIN
            && let Some((name, id)) = first_topic(reply)
        {
            self.ids.lock().unwrap().insert(name.to_vec(), id.to_vec());
        }
    }
}

impl Memory {
    fn append(&self, produce: &Produce) -> Vec<u8> {
        let id = self.ids.lock().unwrap()[produce.topic].clone();
        let mut log = self.log.lock().unwrap();
        if log.id != id {
            *log = Log {
                id,
                batches: Vec::new(),
            };
        }
        let base_offset = log.end_offset();
        let mut records = produce.records.to_vec();
        records[..8].copy_from_slice(&base_offset.to_be_bytes());
        log.batches.push(Batch {
            end_offset: base_offset + produce.count(),
            records,
        });
        self.appended.notify_all();
        produce.appended(base_offset)
    }

    fn fetch(&self, request: &[u8]) -> Vec<u8> {
        assert!(
            api_version(request) >= FETCH_VERSION_MIN,
            "a Fetch by the topic's name"
        );
        let mut fields = Fields::of_request(request, true);
        let wait_ms = fields.i32();
        fields.skip(4 + 4 + 1 + 4 + 4); // sizes, isolation, no session
        let mut reply = correlation_id(request).to_vec();
        reply.extend([0; 1 + 4 + 2 + 4]); // no tags, not throttled, no error, no session
        let wait = Duration::from_millis(wait_ms as u64);
        if fields.count(true) == 1 {
            thread::sleep(wait); // of no topic there is nothing to tell
            reply.extend([1, 0]);
            return reply;
        }
        let id = fields.skip(16);
        fields.skip(1 + 4 + 4); // one partition, 0, its leader's epoch
        let (end_offset, records) = self.read(id, fields.i64(), wait);
        reply.push(2);
        reply.extend(id);
        reply.extend([2, 0, 0, 0, 0, 0, 0]); // partition 0, no error
        reply.extend(end_offset.to_be_bytes());
        reply.extend(end_offset.to_be_bytes());
        reply.extend(0i64.to_be_bytes()); // log start
        reply.push(0); // nothing aborted
        reply.extend((-1i32).to_be_bytes()); // no other replica to read from
        put_count(&mut reply, records.len() as u64 + 1);
        reply.extend(records);
        reply.extend([0; 3]); // no tags
        reply
    }

    /// What there is from `offset` on, and where it ends; as soon as there is any.
    fn read(&self, id: &[u8], offset: i64, wait: Duration) -> (i64, Vec<u8>) {
        let deadline = Instant::now() + wait;
        let mut log = self.log.lock().unwrap();
        while log.id != id || log.end_offset() <= offset {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return (offset, Vec::new());
            }
            log = self.appended.wait_timeout(log, left).unwrap().0;
        }
        let first = log
            .batches
            .partition_point(|batch| batch.end_offset <= offset);
        let mut records = log.batches[first].records.clone();
        for batch in &log.batches[first + 1..] {
            if records.len() + batch.records.len() > FETCH_SIZE_MAX {
                break;
            }
            records.extend(&batch.records);
        }
        (log.end_offset(), records)
    }
}

impl Log {
    fn end_offset(&self) -> i64 {
        self.batches.last().map_or(0, |batch| batch.end_offset)
    }
}

/// Its name and its id, of an answer to Metadata.
fn first_topic(reply: &[u8]) -> Option<(&[u8], &[u8])> {
    let mut fields = Fields {
        frame: reply,
        position: 4 + 1 + 4,
    }; // correlation id, tags, throttle
    for _ in 1..fields.count(true) {
        fields.skip(4);
        fields.text(true);
        fields.skip(4);
        fields.text(true);
        fields.skip(1);
    }
    fields.text(true);
    fields.skip(4);
    if fields.count(true) <= 1 {
        return None;
    }
    fields.skip(2);
    Some((fields.text(true), fields.skip(16)))
}
