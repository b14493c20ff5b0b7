//! Which GPU there is.

use benben_format::{Error, Result};
use burn::tensor::Device;
use burn::tensor::wgpu::WgpuInitError;
use burn::tensor::wgpu::wgpu::DeviceType;
use std::sync::OnceLock;

/// The device that wgpu prefers, and what it calls itself.
#[derive(Debug, Clone)]
pub struct Adapter {
    device: Device,
    name: String,
    software: bool,
}

/// A device can be set up once in a process.
static ADAPTER: OnceLock<Result<Adapter>> = OnceLock::new();

impl Adapter {
    /// The adapter that wgpu prefers, a GPU before a software driver; set up at the first call. The environment variable
    /// `CUBECL_WGPU_DEFAULT_DEVICE` names another.
    ///
    /// # Errors
    /// Unsupported where there is none, with what to install.
    pub fn find() -> Result<Self> {
        ADAPTER.get_or_init(|| Self::set_up().map_err(unavailable)).clone()
    }

    fn set_up() -> Result<Self, WgpuInitError> {
        let (device, setup) = Device::wgpu_options().init_with_setup()?;
        let info = setup.adapter.get_info();
        Ok(Self { device, name: info.name, software: info.device_type == DeviceType::Cpu })
    }

    /// The device for burn's tensors.
    #[must_use]
    pub fn device(&self) -> &Device {
        &self.device
    }

    /// What the driver calls it.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Whether it is a driver that computes on the CPU (lavapipe): right, and slow.
    #[must_use]
    pub fn is_software(&self) -> bool {
        self.software
    }
}

fn unavailable(error: WgpuInitError) -> Error {
    Error::unsupported(format!("no wgpu adapter: {error}")).with_hint(
        "install a Vulkan driver for the GPU, or one in software (Debian: mesa-vulkan-drivers libvulkan1)",
    )
}
