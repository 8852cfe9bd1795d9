//! Numbers that look like chance and follow from a seed, so that what a test found can be found
//! again.

/// A source of numbers.
#[derive(Clone, Debug, Default)]
pub struct Dice {
    seed: u64,
    /// What is thrown before that, the next at the end.
    loaded: Vec<u8>,
}

impl Dice {
    /// The same numbers for the same seed.
    pub fn new(seed: u64) -> Self {
        Self { seed, loaded: Vec::new() }
    }

    /// Numbers that these bytes decide as long as there are some: a fuzzer throws with them.
    pub fn loaded(bytes: &[u8]) -> Self {
        Self { seed: 0, loaded: bytes.iter().rev().copied().collect() }
    }

    /// Whether such bytes are left.
    pub fn is_loaded(&self) -> bool {
        !self.loaded.is_empty()
    }

    /// Any number (SplitMix64).
    pub fn number(&mut self) -> u64 {
        if self.is_loaded() {
            return self.take(size_of::<u64>());
        }
        self.seed = self.seed.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = self.seed;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ (mixed >> 31)
    }

    /// A number below a bound, which is not zero.
    pub fn below(&mut self, bound: usize) -> usize {
        let number = if self.is_loaded() {
            // Few bytes for a small number: a fuzzer changes one at a time.
            self.take(if bound <= 1 << 8 { 1 } else { size_of::<u32>() })
        } else {
            self.number()
        };
        (number % bound as u64) as usize
    }

    /// True once in so many times.
    pub fn one_in(&mut self, times: usize) -> bool {
        self.below(times) == 0
    }

    fn take(&mut self, bytes: usize) -> u64 {
        (0..bytes).fold(0, |number, _| number << 8 | u64::from(self.loaded.pop().unwrap_or(0)))
    }
}
