//! The peer on the native side: the Walrus engine behind the native protocol, or alone.
//!
//!     walrus-peer serve PORT                    REGISTER, PUT and GET over TCP, one thread each
//!     walrus-peer batches COUNT ENTRIES SIZE    seconds that COUNT durable batches took
//!
//! It does what the engine's own distributed form does for one node, without that form's Raft and
//! QUIC: a PUT is one `batch_append_for_topic`, which syncs before it returns, under a lock of the
//! topic; a GET is one `read_next` that persists its cursor. The data goes to WALRUS_DATA_DIR.

use std::collections::HashMap;
use std::io::{self, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::time::Instant;
use std::{env, thread};

use walrus_rust::{FsyncSchedule, ReadConsistency, Walrus};

type Topics = Arc<Mutex<HashMap<String, Arc<Mutex<()>>>>>;

fn main() -> io::Result<()> {
    let words: Vec<String> = env::args().skip(1).collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let wal = Walrus::with_consistency_and_schedule(
        ReadConsistency::StrictlyAtOnce,
        FsyncSchedule::Milliseconds(200),
    )?;
    match words.as_slice() {
        ["serve", port] => serve(Arc::new(wal), number(port) as u16),
        ["batches", count, entries, size] => {
            batches(&wal, number(count), number(entries), number(size))
        }
        _ => Err(io::Error::other("serve PORT | batches COUNT ENTRIES SIZE")),
    }
}

fn number(word: &str) -> usize {
    word.parse().expect("a number")
}

fn batches(wal: &Walrus, count: usize, entries: usize, size: usize) -> io::Result<()> {
    let entry = vec![b'x'; size];
    let batch = vec![entry.as_slice(); entries];
    let began = Instant::now();
    for _ in 0..count {
        wal.batch_append_for_topic("bench", &batch)?;
    }
    println!("{}", began.elapsed().as_secs_f64());
    Ok(())
}

fn serve(wal: Arc<Walrus>, port: u16) -> io::Result<()> {
    let topics = Topics::default();
    for stream in TcpListener::bind(("127.0.0.1", port))?.incoming() {
        let (stream, wal, topics) = (stream?, wal.clone(), topics.clone());
        thread::spawn(move || converse(stream, &wal, &topics));
    }
    Ok(())
}

/// Until the client goes away, or says what cannot be understood.
fn converse(stream: TcpStream, wal: &Walrus, topics: &Topics) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let mut writer = stream.try_clone()?;
    let mut reader = BufReader::new(stream);
    loop {
        let mut prefix = [0; 4];
        reader.read_exact(&mut prefix)?;
        let mut frame = vec![0; u32::from_le_bytes(prefix) as usize];
        reader.read_exact(&mut frame)?;
        let answer =
            answer(&frame, wal, topics).unwrap_or_else(|e| format!("ERR {e}").into_bytes());
        let mut reply = (answer.len() as u32).to_le_bytes().to_vec();
        reply.extend(answer);
        writer.write_all(&reply)?;
    }
}

fn answer(frame: &[u8], wal: &Walrus, topics: &Topics) -> io::Result<Vec<u8>> {
    let text = std::str::from_utf8(frame).map_err(io::Error::other)?;
    let mut words = text.splitn(3, ' ');
    let (verb, topic) = (words.next().unwrap_or(""), words.next().unwrap_or(""));
    if verb == "REGISTER" {
        topics.lock().unwrap().entry(topic.to_string()).or_default();
        return Ok(b"OK".to_vec());
    }
    let lock = topics.lock().unwrap().get(topic).cloned();
    let lock = lock.ok_or_else(|| io::Error::other("unknown topic"))?;
    let _turn = lock.lock().unwrap();
    match verb {
        "PUT" => {
            wal.batch_append_for_topic(topic, &[words.next().unwrap_or("").as_bytes()])?;
            Ok(b"OK".to_vec())
        }
        "GET" => Ok(match wal.read_next(topic, true)? {
            Some(entry) => [b"OK ".as_slice(), &entry.data].concat(),
            None => b"EMPTY".to_vec(),
        }),
        _ => Err(io::Error::other("unknown command")),
    }
}
