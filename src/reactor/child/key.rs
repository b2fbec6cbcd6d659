//! Which descriptor of which child an event belongs to, packed into the part
//! of a token that the reactor leaves to children.

/// Bits of a part, of a slot and of a generation: 61 together.
const PART_BITS: u32 = 2;
const SLOT_BITS: u32 = 32;
const GENERATION_BITS: u32 = 27;

/// A child by its slot. The generation tells it from those that had the slot
/// before it; it comes round after 134 million commands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct ChildKey {
    pub(super) slot: u32,
    pub(super) generation: u32,
}

/// One of a child's descriptors.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Part {
    Stdin,
    Stdout,
    Stderr,
    /// The pidfd.
    Exit,
}

impl ChildKey {
    /// The generation after that one.
    pub(super) fn next_generation(generation: u32) -> u32 {
        (generation + 1) & ((1 << GENERATION_BITS) - 1)
    }

    pub(super) fn pack(self, part: Part) -> usize {
        (self.generation as usize) << (SLOT_BITS + PART_BITS) | (self.slot as usize) << PART_BITS | part as usize
    }

    pub(super) fn unpack(packed: usize) -> (ChildKey, Part) {
        let part = [Part::Stdin, Part::Stdout, Part::Stderr, Part::Exit][packed & ((1 << PART_BITS) - 1)];
        let slot = (packed >> PART_BITS) as u32;
        let generation = (packed >> (SLOT_BITS + PART_BITS)) as u32 & ((1 << GENERATION_BITS) - 1);
        (ChildKey { slot, generation }, part)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_and_a_part_survive_packing_into_61_bits() {
        for slot in [0, 1, u32::MAX] {
            for generation in [0, 1, (1 << GENERATION_BITS) - 1] {
                for part in [Part::Stdin, Part::Stdout, Part::Stderr, Part::Exit] {
                    let key = ChildKey { slot, generation };
                    assert!(key.pack(part) < 1 << 61);
                    assert_eq!(ChildKey::unpack(key.pack(part)), (key, part));
                }
            }
        }
        assert_eq!(ChildKey::next_generation((1 << GENERATION_BITS) - 1), 0);
    }
}
