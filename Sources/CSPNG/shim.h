#ifndef FLOWPACK_CSPNG_SHIM_H
#define FLOWPACK_CSPNG_SHIM_H

#include <spng.h>

#endif
