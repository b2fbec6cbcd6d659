//! stub
pub mod warden {
    //! s
    /// s
    pub const ARGUMENT: &str = "--warden";
    /// s
    pub fn main() -> std::process::ExitCode {
        std::process::ExitCode::SUCCESS
    }
}
