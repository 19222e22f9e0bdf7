//! A broker that throws away what it is sent and says that all is well: what a client can do at most.
//!
//!     nothing PORT BEHIND    answers Produce itself; the broker at BEHIND answers everything else
//!
//! One topic and one partition per request, as the clients of the benchmark send them. The broker behind
//! has to name PORT as its address.

use std::io::{self, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::{env, thread};

const PRODUCE: i16 = 0;
const FLEXIBLE_MIN: i16 = 9;
const LOG_START_MIN: i16 = 5;
const ERRORS_MIN: i16 = 8;
/// Of a batch, where its number of records stands.
const COUNT_POSITION: usize = 57;

fn main() -> io::Result<()> {
    let ports: Vec<u16> = env::args().skip(1).map(|word| word.parse().expect("a port")).collect();
    let &[port, behind] = ports.as_slice() else {
        return Err(io::Error::other("nothing PORT BEHIND"));
    };
    let end_offset = Arc::new(AtomicI64::new(0));
    for stream in TcpListener::bind(("127.0.0.1", port))?.incoming() {
        let (stream, end_offset) = (stream?, end_offset.clone());
        thread::spawn(move || converse(stream, behind, &end_offset));
    }
    Ok(())
}

/// Until the client goes away.
fn converse(client: TcpStream, behind: u16, end_offset: &AtomicI64) -> io::Result<()> {
    client.set_nodelay(true)?;
    let mut broker = TcpStream::connect(("127.0.0.1", behind))?;
    broker.set_nodelay(true)?;
    let mut writer = client.try_clone()?;
    let mut reader = BufReader::with_capacity(1 << 16, client);
    let (mut frame, mut reply) = (Vec::new(), Vec::new());
    loop {
        receive(&mut reader, &mut frame)?;
        if i16::from_be_bytes([frame[0], frame[1]]) == PRODUCE {
            let body = answer(&frame, end_offset);
            reply.clear();
            reply.extend((body.len() as u32).to_be_bytes());
            reply.extend(body);
            writer.write_all(&reply)?;
        } else {
            send(&mut broker, &frame)?;
            receive(&mut broker, &mut reply)?;
            send(&mut writer, &reply)?;
        }
    }
}

fn receive(from: &mut impl Read, frame: &mut Vec<u8>) -> io::Result<()> {
    let mut prefix = [0; 4];
    from.read_exact(&mut prefix)?;
    let size = u32::from_be_bytes(prefix) as usize;
    if frame.len() < size {
        frame.resize(size, 0);
    }
    frame.truncate(size.max(1));
    from.read_exact(&mut frame[..size])
}

fn send(to: &mut TcpStream, frame: &[u8]) -> io::Result<()> {
    to.write_all(&[&(frame.len() as u32).to_be_bytes(), frame].concat())
}

/// "Appended without an error", to a Produce.
fn answer(frame: &[u8], end_offset: &AtomicI64) -> Vec<u8> {
    let mut request = Fields { frame, position: 2 };
    let version = request.i16();
    let is_flexible = version >= FLEXIBLE_MIN;
    let correlation_id = request.i32();
    let client_id_size = request.i16();
    request.skip(client_id_size.max(0) as usize);
    if is_flexible {
        request.skip(1); // no tags
    }
    request.text(is_flexible); // no transactional id
    request.skip(2 + 4); // acks, timeout
    request.count(is_flexible);
    let topic = request.text(is_flexible);
    request.count(is_flexible);
    let index = request.i32();
    request.count(is_flexible); // bytes of the records
    let records = &frame[request.position + COUNT_POSITION..];
    let count = i32::from_be_bytes(records[..4].try_into().unwrap());

    let mut reply = correlation_id.to_be_bytes().to_vec();
    if is_flexible {
        reply.extend([0, 2, topic.len() as u8 + 1]);
    } else {
        reply.extend(1i32.to_be_bytes());
        reply.extend((topic.len() as i16).to_be_bytes());
    }
    reply.extend(topic);
    if is_flexible {
        reply.push(2);
    } else {
        reply.extend(1i32.to_be_bytes());
    }
    reply.extend(index.to_be_bytes());
    reply.extend([0, 0]); // no error
    reply.extend(end_offset.fetch_add(count.into(), Ordering::Relaxed).to_be_bytes());
    reply.extend((-1i64).to_be_bytes()); // append time
    if version >= LOG_START_MIN {
        reply.extend(0i64.to_be_bytes());
    }
    if is_flexible {
        reply.extend([1, 0, 0, 0]); // no record errors, no message, no tags twice
        reply.extend([0, 0, 0, 0, 0]); // not throttled, no tags
    } else {
        if version >= ERRORS_MIN {
            reply.extend([0, 0, 0, 0, 0xff, 0xff]); // no record errors, no message
        }
        reply.extend([0, 0, 0, 0]); // not throttled
    }
    reply
}

struct Fields<'a> {
    frame: &'a [u8],
    position: usize,
}

impl<'a> Fields<'a> {
    fn skip(&mut self, size: usize) -> &'a [u8] {
        self.position += size;
        &self.frame[self.position - size..self.position]
    }

    fn i16(&mut self) -> i16 {
        i16::from_be_bytes(self.skip(2).try_into().unwrap())
    }

    fn i32(&mut self) -> i32 {
        i32::from_be_bytes(self.skip(4).try_into().unwrap())
    }

    /// Of what follows, where that is compact, plus 1.
    fn count(&mut self, is_flexible: bool) -> i64 {
        if !is_flexible {
            return self.i32().into();
        }
        let (mut value, mut shift) = (0i64, 0);
        loop {
            let byte = self.skip(1)[0];
            value |= i64::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                return value;
            }
            shift += 7;
        }
    }

    /// A string; empty where it is null.
    fn text(&mut self, is_flexible: bool) -> &'a [u8] {
        let size = if is_flexible { self.count(true) - 1 } else { self.i16().into() };
        self.skip(size.max(0) as usize)
    }
}
