//! A broker that throws away what it is sent and says that all is well: what a client can send at most.
//!
//!     nothing PORT BEHIND    answers Produce itself; the broker at BEHIND answers everything else

use std::io;
use std::sync::atomic::{AtomicI64, Ordering};

use walrus_peer::fields::api_key;
use walrus_peer::produce::{self, Produce};
use walrus_peer::relay::{Server, serve};

struct Nothing {
    end_offset: AtomicI64,
}

impl Server for Nothing {
    fn answer(&self, request: &[u8]) -> Option<Vec<u8>> {
        (api_key(request) == produce::KEY).then(|| {
            let produce = Produce::read(request);
            produce.appended(
                self.end_offset
                    .fetch_add(produce.count(), Ordering::Relaxed),
            )
        })
    }
}

fn main() -> io::Result<()> {
    static NOTHING: Nothing = Nothing {
        end_offset: AtomicI64::new(0),
    };
    serve(&NOTHING)
}
