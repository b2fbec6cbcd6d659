//! Nicks and rooms: which names are allowed and which are the same.
