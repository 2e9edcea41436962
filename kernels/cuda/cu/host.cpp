//! All kernels for the host.
#include "kernels.cu"
