use super::*;
use crate::wire::frame::{FrameDecoder, Limits, Piece};
