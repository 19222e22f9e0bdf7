//! A broker that writes what it is sent to a file, and looks at nothing: what a log costs at least.
//!
//!     file PORT BEHIND PATH none|each    answers Produce itself; the broker at BEHIND everything else
//!
//! `each`: synced before it is acknowledged. One topic at a time, whose first record empties the file.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::sync::{LazyLock, Mutex};

use walrus_peer::fields::api_key;
use walrus_peer::produce::{self, Produce};
use walrus_peer::relay::{Server, serve, word};

struct Disk {
    is_synced: bool,
    log: Mutex<Log>,
}

struct Log {
    file: File,
    topic: Vec<u8>,
    end_offset: i64,
    size: u64,
    synced_size: u64,
}

fn main() -> io::Result<()> {
    static DISK: LazyLock<Disk> = LazyLock::new(|| Disk {
        is_synced: word(4) == "each",
        log: Mutex::new(Log {
            file: File::create(word(3)).expect("a file"),
            topic: Vec::new(),
            end_offset: 0,
            size: 0,
            synced_size: 0,
        }),
    });
    serve(&*DISK)
}

impl Server for Disk {
    fn answer(&self, request: &[u8]) -> Option<Vec<u8>> {
        (api_key(request) == produce::KEY).then(|| {
            let produce = Produce::read(request);
            let base_offset = self.log.lock().unwrap().append(&produce).expect("appended");
            produce.appended(base_offset)
        })
    }

    fn settle(&self) {
        if self.is_synced {
            self.log.lock().unwrap().sync().expect("synced");
        }
    }
}

impl Log {
    fn append(&mut self, produce: &Produce) -> io::Result<i64> {
        if self.topic != produce.topic {
            self.file.set_len(0)?;
            self.topic = produce.topic.to_vec();
            (self.end_offset, self.size, self.synced_size) = (0, 0, 0);
        }
        self.file.write_all_at(produce.records, self.size)?;
        let base_offset = self.end_offset;
        self.size += produce.records.len() as u64;
        self.end_offset += produce.count();
        Ok(base_offset)
    }

    fn sync(&mut self) -> io::Result<()> {
        if self.synced_size < self.size {
            self.file.sync_data()?;
            self.synced_size = self.size;
        }
        Ok(())
    }
}
