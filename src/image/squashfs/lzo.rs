//! Unpacks LZO1X, as Documentation/staging/lzo.rst of the kernel describes it.
//!
//! Called by `tables`. The data is hostile: every length and distance is checked, and no more comes out than is allowed.

/// Unpacks `data` into `most` bytes at most; none if it is damaged or larger.
pub fn unpack(data: &[u8], most: usize) -> Option<Vec<u8>> {
    let mut work = Work { data, out: Vec::with_capacity(most), most };
    // How many bytes were taken as they are before this instruction; 4: more than three.
    let mut state = 0;
    if let Some((first @ 18.., rest)) = data.split_first() {
        work.data = rest;
        let length = usize::from(first - 17);
        work.plain(length)?;
        state = length.min(4);
    }
    loop {
        let code = usize::from(work.byte()?);
        let (length, distance, plain) = match (code, state) {
            (0..16, 0) => {
                let length = 3 + work.length(code, 15)?;
                work.plain(length)?;
                state = 4;
                continue;
            }
            (0..16, 1..4) => (2, (usize::from(work.byte()?) << 2) + (code >> 2) + 1, code & 3),
            (0..16, _) => (3, (usize::from(work.byte()?) << 2) + (code >> 2) + 2049, code & 3),
            (16..32, _) => {
                let length = 2 + work.length(code & 7, 7)?;
                let word = work.word()?;
                let distance = 16_384 + ((code & 8) << 11) + (word >> 2);
                if distance == 16_384 {
                    // The end; nothing follows.
                    return (length == 3 && word & 3 == 0 && work.data.is_empty()).then_some(work.out);
                }
                (length, distance, word & 3)
            }
            (32..64, _) => {
                let length = 2 + work.length(code & 31, 31)?;
                let word = work.word()?;
                (length, (word >> 2) + 1, word & 3)
            }
            _ => ((code >> 5) + 1, (usize::from(work.byte()?) << 3) + (code >> 2 & 7) + 1, code & 3),
        };
        work.copy(length, distance)?;
        work.plain(plain)?;
        state = plain;
    }
}

struct Work<'a> {
    data: &'a [u8],
    out: Vec<u8>,
    most: usize,
}

impl Work<'_> {
    fn byte(&mut self) -> Option<u8> {
        self.data.split_off_first().copied()
    }

    fn word(&mut self) -> Option<usize> {
        let bytes = [self.byte()?, self.byte()?];
        Some(usize::from(u16::from_le_bytes(bytes)))
    }

    /// A length: what the instruction has room for, or if that is 0, `base` and the bytes that follow up to one that is not 0.
    fn length(&mut self, short: usize, base: usize) -> Option<usize> {
        if short != 0 {
            return Some(short);
        }
        let zeros = self.data.iter().position(|byte| *byte != 0)?;
        self.data = &self.data[zeros..];
        Some(base + zeros * 255 + usize::from(self.byte()?))
    }

    fn plain(&mut self, length: usize) -> Option<()> {
        let piece = self.data.split_off(..length).filter(|_| length <= self.most - self.out.len())?;
        self.out.extend_from_slice(piece);
        Some(())
    }

    /// Repeats what came `distance` bytes before; that may be what this appends.
    fn copy(&mut self, mut length: usize, distance: usize) -> Option<()> {
        let from = self.out.len().checked_sub(distance).filter(|_| length <= self.most - self.out.len())?;
        while length > 0 {
            let n = length.min(self.out.len() - from);
            self.out.extend_from_within(from..from + n);
            length -= n;
        }
        Some(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_instruction() {
        // Plain bytes at the start, the end.
        assert_eq!(unpack(b"\x14abc\x11\0\0", 3).expect("good"), b"abc");
        assert_eq!(unpack(b"\x16abcde\x11\0\0", 9).expect("good"), b"abcde");
        // A long run of plain bytes.
        let long = [b"\0\x01", &[b'x'; 19][..], b"\x11\0\0"].concat();
        assert_eq!(unpack(&long, 100).expect("good"), [b'x'; 19]);
        // Two from near by after one to three plain ones; one more plain one with it.
        assert_eq!(unpack(b"\x14abc\x09\0z\x11\0\0", 9).expect("good"), b"abcabz");
        // Three to eight from near by; over itself.
        assert_eq!(unpack(b"\x14abc\xe8\0\x11\0\0", 90).expect("good"), b"abcabcabcab");
        assert_eq!(unpack(b"\x14abc\x40\0\x11\0\0", 90).expect("good"), b"abcccc");
        // Longer ones: 2 + 31 + 2.
        let out = unpack(b"\x14abc\x20\x02\0\0\x11\0\0", 90).expect("good");
        assert_eq!(out, [&b"ab"[..], &[b'c'; 36]].concat());
        // From far away: 2,049 bytes, and more than 16,384.
        let many = 18 + 8 * 255 + 255;
        let far = [&[0; 9][..], &[0xff], &vec![b'y'; many], b"\0\0\x11\0\0"].concat();
        assert_eq!(unpack(&far, 3000).expect("good"), vec![b'y'; many + 3]);
        let many = 18 + 66 * 255 + 5;
        let word = ((many - 16_384) as u16) << 2;
        let far = [&[0; 67][..], &[5, b'a'], &vec![b'b'; many - 1], &[0x13], &word.to_le_bytes(), b"\x11\0\0"].concat();
        assert_eq!(unpack(&far, 20_000).expect("good")[many..], *b"abbbb");
    }

    #[test]
    fn what_cannot_be_is_refused() {
        let good = b"\x14abc\xe8\0\x11\0\0";
        for length in 0..good.len() {
            assert_eq!(unpack(&good[..length], 90), None);
        }
        assert_eq!(unpack(good, 10), None);
        assert_eq!(unpack(b"\x14abc\xec\0\x11\0\0", 90), None, "before the start");
        assert_eq!(unpack(b"\x14abc\x11\0\0\0", 90), None, "something follows");
        assert_eq!(unpack(b"\x14abc\x12\0\0", 90), None, "no end");
        assert_eq!(unpack(&[0; 5000], 90), None);
        assert_eq!(unpack(&[0xff; 5000], 90), None);
    }
}
