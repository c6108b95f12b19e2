//! Names for addresses of a target's code.

use redmagic_tracee::image::{Image, Symbol};
use redmagic_tracee::maps::Maps;

use crate::session::{Session, lock};

/// The images of a target, with their symbols.
#[derive(Debug, Default)]
pub struct Names {
    images: Vec<Image>,
}

impl Names {
    /// Reads the symbol tables of what is mapped; of what was mapped last, when the target is gone. Takes milliseconds.
    pub fn read(session: &Session) -> Names {
        let maps = match Maps::read(session.pid) {
            Ok(maps) if !maps.regions().is_empty() => maps,
            _ => lock(&session.symbols).maps().clone(),
        };
        Names {
            images: Image::all(session.pid, &maps),
        }
    }

    fn symbol(&self, address: u64) -> Option<(&Symbol, u64)> {
        self.images.iter().find_map(|image| image.function_at(address))
    }

    /// The function that an address is in, without what the compiler adds to the names of parts (`.cold`, `.part.0`).
    pub fn function(&self, address: u64) -> Option<&str> {
        let (symbol, _) = self.symbol(address)?;
        let name = symbol.name.as_str();
        Some(match name.find('.') {
            Some(at) if at > 0 => &name[..at],
            _ => name,
        })
    }

    /// The function of an address and how far into it it is; the address itself when that is not known.
    pub fn place(&self, address: u64) -> String {
        match self.symbol(address) {
            Some((symbol, 0)) => symbol.name.clone(),
            Some((symbol, offset)) => format!("{}+{offset:#x}", symbol.name),
            None => match self.image(address) {
                Some(image) => format!("{}+{:#x}", self.whole(address), address.wrapping_sub(image.bias)),
                None => format!("{address:#x}"),
            },
        }
    }

    /// The function, or else the file, that an address is in.
    pub fn whole(&self, address: u64) -> String {
        let name = self.function(address).or_else(|| self.file(address));
        name.map_or_else(|| format!("{address:#x}"), str::to_owned)
    }

    /// The name of the file that is mapped at an address.
    pub fn file(&self, address: u64) -> Option<&str> {
        self.image(address)?.path.rsplit('/').next()
    }

    fn image(&self, address: u64) -> Option<&Image> {
        self.images.iter().find(|image| image.range.contains(&address))
    }
}
