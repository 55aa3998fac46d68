//! Reads a little-endian pcapng file by the letter of the draft. It panics where the file is wrong.

pub const SHB: u32 = 0x0a0d_0d0a;
pub const IDB: u32 = 1;
pub const NRB: u32 = 4;
pub const ISB: u32 = 5;
pub const EPB: u32 = 6;

#[derive(Debug)]
pub struct Block {
    pub kind: u32,
    /// Without type and lengths.
    pub body: Vec<u8>,
}

/// All blocks of a file, which they fill.
pub fn blocks(mut file: &[u8]) -> Vec<Block> {
    let mut blocks = Vec::new();
    while !file.is_empty() {
        let kind = u32(file, 0);
        let len = size(u32(file, 4));
        assert_eq!(len % 4, 0);
        assert_eq!(size(u32(file, len - 4)), len, "the length stands twice");
        let block = Block { kind, body: file[8..len - 4].to_vec() };
        if blocks.is_empty() {
            assert_eq!((kind, block.u32(0)), (SHB, 0x1a2b_3c4d));
        }
        block.options();
        blocks.push(block);
        file = &file[len..];
    }
    blocks
}

impl Block {
    pub fn u16(&self, at: usize) -> u16 {
        u16(&self.body, at)
    }

    pub fn u32(&self, at: usize) -> u32 {
        u32(&self.body, at)
    }

    /// The value of an option that is there once.
    pub fn option(&self, code: u16) -> &[u8] {
        assert_eq!(self.options_of(code), 1, "option {code} of {self:?}");
        self.options().into_iter().find(|(other, _)| *other == code).expect("counted").1
    }

    pub fn text(&self, code: u16) -> &str {
        std::str::from_utf8(self.option(code)).expect("UTF-8")
    }

    /// How many options have this code.
    pub fn options_of(&self, code: u16) -> usize {
        self.options().iter().filter(|(other, _)| *other == code).count()
    }

    /// Type and value of each record of names.
    pub fn records(&self) -> Vec<(u16, Vec<u8>)> {
        assert_eq!(self.kind, NRB);
        entries(&self.body).0.into_iter().map(|(kind, value)| (kind, value.to_vec())).collect()
    }

    fn options(&self) -> Vec<(u16, &[u8])> {
        let fixed = match self.kind {
            SHB => 16,
            IDB => 8,
            EPB => 20 + size(self.u32(12)).next_multiple_of(4),
            ISB => 12,
            NRB => {
                let (_, end) = entries(&self.body);
                end
            }
            kind => panic!("a block of type {kind:#x}"),
        };
        let options = &self.body[fixed..];
        if options.is_empty() {
            return Vec::new();
        }
        let (options, end) = entries(options);
        assert_eq!(fixed + end, self.body.len(), "nothing is behind the end of options");
        options
    }
}

/// Codes and values up to the end's mark, and where that ends.
fn entries(bytes: &[u8]) -> (Vec<(u16, &[u8])>, usize) {
    let (mut entries, mut at) = (Vec::new(), 0);
    loop {
        let (code, len) = (u16(bytes, at), usize::from(u16(bytes, at + 2)));
        let value = &bytes[at + 4..at + 4 + len];
        at += 4 + len.next_multiple_of(4);
        if code == 0 {
            assert_eq!(len, 0);
            return (entries, at);
        }
        entries.push((code, value));
    }
}

fn u16(bytes: &[u8], at: usize) -> u16 {
    u16::from_le_bytes(*bytes[at..].first_chunk().expect("two bytes"))
}

fn u32(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(*bytes[at..].first_chunk().expect("four bytes"))
}

fn size(number: u32) -> usize {
    usize::try_from(number).expect("64 bits")
}
