//! Produce, with one topic and one partition, as the clients of the benchmark send it.

use crate::fields::{Fields, api_version, correlation_id};

pub const KEY: i16 = 0;
const FLEXIBLE_MIN: i16 = 9;
const LOG_START_MIN: i16 = 5;
const ERRORS_MIN: i16 = 8;
/// Of a batch, where its number of records stands.
const COUNT_POSITION: usize = 57;

pub struct Produce<'a> {
    frame: &'a [u8],
    pub topic: &'a [u8],
    index: i32,
    /// One batch.
    pub records: &'a [u8],
}

impl<'a> Produce<'a> {
    pub fn read(frame: &'a [u8]) -> Self {
        let is_flexible = api_version(frame) >= FLEXIBLE_MIN;
        let mut request = Fields::of_request(frame, is_flexible);
        request.text(is_flexible); // no transactional id
        request.skip(2 + 4); // acks, timeout
        request.count(is_flexible);
        let topic = request.text(is_flexible);
        request.count(is_flexible);
        let index = request.i32();
        let size = request.count(is_flexible) - i64::from(is_flexible);
        Produce {
            frame,
            topic,
            index,
            records: request.skip(size as usize),
        }
    }

    /// How many records it brings.
    pub fn count(&self) -> i64 {
        let position = COUNT_POSITION..COUNT_POSITION + 4;
        i32::from_be_bytes(self.records[position].try_into().unwrap()).into()
    }

    /// "Appended without an error."
    pub fn appended(&self, base_offset: i64) -> Vec<u8> {
        let version = api_version(self.frame);
        let is_flexible = version >= FLEXIBLE_MIN;
        let mut reply = correlation_id(self.frame).to_vec();
        if is_flexible {
            reply.extend([0, 2, self.topic.len() as u8 + 1]);
        } else {
            reply.extend(1i32.to_be_bytes());
            reply.extend((self.topic.len() as i16).to_be_bytes());
        }
        reply.extend(self.topic);
        if is_flexible {
            reply.push(2);
        } else {
            reply.extend(1i32.to_be_bytes());
        }
        reply.extend(self.index.to_be_bytes());
        reply.extend([0, 0]); // no error
        reply.extend(base_offset.to_be_bytes());
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
}
