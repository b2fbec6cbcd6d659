//! stub
/// stub
pub struct Session {}
/// stub
pub struct SessionConfig {}
