//! A server that answers some requests itself; a broker behind it answers the others. That one has
//! to name this server's port as its address.

use std::io::{self, BufReader, IoSlice, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::{env, thread};

pub trait Server: Send + Sync + 'static {
    /// To a whole request, without its size. None: ask the broker behind.
    fn answer(&self, request: &[u8]) -> Option<Vec<u8>>;

    /// The answers to all requests that have come together are about to leave.
    fn settle(&self) {}

    /// What the broker behind has answered.
    fn overhear(&self, _request: &[u8], _reply: &[u8]) {}
}

/// Of the command line.
pub fn word(number: usize) -> String {
    env::args().nth(number).expect("more words")
}

/// For ever, at the port that stands first in the command line; the broker behind is at the second.
pub fn serve(server: &'static impl Server) -> io::Result<()> {
    let [port, behind] = [1, 2].map(|number| word(number).parse::<u16>().expect("a port"));
    for stream in TcpListener::bind(("127.0.0.1", port))?.incoming() {
        let stream = stream?;
        thread::spawn(move || converse(stream, behind, server));
    }
    Ok(())
}

/// Until the client goes away.
fn converse(client: TcpStream, behind: u16, server: &impl Server) -> io::Result<()> {
    client.set_nodelay(true)?;
    let mut broker = TcpStream::connect(("127.0.0.1", behind))?;
    broker.set_nodelay(true)?;
    let mut writer = client.try_clone()?;
    let mut reader = BufReader::with_capacity(1 << 16, client);
    let (mut request, mut replies) = (Vec::new(), Vec::new());
    loop {
        receive(&mut reader, &mut request)?;
        replies.push(match server.answer(&request) {
            Some(reply) => reply,
            None => {
                let mut reply = Vec::new();
                send(&mut broker, &request)?;
                receive(&mut broker, &mut reply)?;
                server.overhear(&request, &reply);
                reply
            }
        });
        if !holds_a_frame(reader.buffer()) {
            server.settle();
            for reply in replies.drain(..) {
                send(&mut writer, &reply)?;
            }
        }
    }
}

fn holds_a_frame(received: &[u8]) -> bool {
    received
        .split_first_chunk()
        .is_some_and(|(prefix, rest)| rest.len() >= u32::from_be_bytes(*prefix) as usize)
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
    let prefix = (frame.len() as u32).to_be_bytes();
    let sent = to.write_vectored(&[IoSlice::new(&prefix), IoSlice::new(frame)])?;
    to.write_all(&prefix[sent.min(prefix.len())..])?;
    to.write_all(&frame[sent.saturating_sub(prefix.len())..])
}
