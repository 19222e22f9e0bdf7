//! The Kafka protocol's primitive types, as far as the benchmark's clients use them.

/// Reads one after the other. Panics where the bytes end.
pub struct Fields<'a> {
    pub frame: &'a [u8],
    pub position: usize,
}

impl<'a> Fields<'a> {
    /// Behind the header of a request that has API key and version in front.
    pub fn of_request(frame: &'a [u8], is_flexible: bool) -> Self {
        let mut request = Fields { frame, position: 8 };
        let client_id_size = request.i16();
        request.skip(client_id_size.max(0) as usize);
        if is_flexible {
            request.skip(1); // no tags
        }
        request
    }

    pub fn skip(&mut self, size: usize) -> &'a [u8] {
        self.position += size;
        &self.frame[self.position - size..self.position]
    }

    pub fn i16(&mut self) -> i16 {
        i16::from_be_bytes(self.skip(2).try_into().unwrap())
    }

    pub fn i32(&mut self) -> i32 {
        i32::from_be_bytes(self.skip(4).try_into().unwrap())
    }

    pub fn i64(&mut self) -> i64 {
        i64::from_be_bytes(self.skip(8).try_into().unwrap())
    }

    /// Of what follows, where that is compact, plus 1.
    pub fn count(&mut self, is_flexible: bool) -> i64 {
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
    pub fn text(&mut self, is_flexible: bool) -> &'a [u8] {
        let size = if is_flexible {
            self.count(true) - 1
        } else {
            self.i16().into()
        };
        self.skip(size.max(0) as usize)
    }
}

/// What `count` reads, compact.
pub fn put_count(into: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        into.push(value as u8 | 0x80);
        value >>= 7;
    }
    into.push(value as u8);
}

pub fn api_key(frame: &[u8]) -> i16 {
    i16::from_be_bytes([frame[0], frame[1]])
}

pub fn api_version(frame: &[u8]) -> i16 {
    i16::from_be_bytes([frame[2], frame[3]])
}

/// The bytes, not the number: they go back as they came.
pub fn correlation_id(frame: &[u8]) -> &[u8] {
    &frame[4..8]
}
