# The emulator and the PTX that it runs. nvcc's front end compiles every kernel source to PTX with the
# options of the build, and the module contains this PTX as text. Test kernels for the PTX wrappers
# are added, and some kernels with VGG_CUDA_DEBUG_WAITS.

if(NOT VGG_CUDA_EMULATOR)
  target_sources(vgg_bindings PRIVATE csrc/bindings/no_emulator.cpp)
  return()
endif()
if(NOT VGG_WITH_CUDA)
  message(FATAL_ERROR "VGG_CUDA_EMULATOR: expected a build with CUDA, whose nvcc compiles the kernels")
endif()

string(TOUPPER "${CMAKE_BUILD_TYPE}" _type)
separate_arguments(_flags UNIX_COMMAND "${CMAKE_CUDA_FLAGS} ${CMAKE_CUDA_FLAGS_${_type}}")
if(CMAKE_CUDA_HOST_COMPILER)
  list(APPEND _flags "-ccbin=${CMAKE_CUDA_HOST_COMPILER}")
endif()

# vgg_ptx(<list> <front end> <source> <flags>...): compiles to PTX and adds an entry to the list.
set(_symbols "")
set(_files "")
function(vgg_ptx list front_end source)
  string(REGEX REPLACE "^csrc/(kernels/)?(.*)\\.cu$" "\\2" _name "${source}")
  string(MAKE_C_IDENTIFIER "${list}_${_name}" _symbol)
  set(_ptx "${PROJECT_BINARY_DIR}/${_symbol}.ptx")
  add_custom_command(
    OUTPUT "${_ptx}"
    COMMAND "${CMAKE_CUDA_COMPILER}" ${_flags} -std=c++17 -arch=${front_end} -lineinfo ${ARGN}
            "-I${PROJECT_SOURCE_DIR}/csrc" -ptx -MD -MF "${_ptx}.d" -o "${_ptx}"
            "${PROJECT_SOURCE_DIR}/${source}"
    DEPENDS "${PROJECT_SOURCE_DIR}/${source}"
    DEPFILE "${_ptx}.d"
    COMMENT "PTX of ${source} ${ARGN}"
    VERBATIM)
  set(_files ${_files} "${_ptx}" PARENT_SCOPE)
  string(APPEND _symbols "PTX(${_symbol}, \"${_ptx}\")\n")
  string(APPEND ${list} "      {\"${_name}\", text(${_symbol}, ${_symbol}_end)},\n")
  set(_symbols "${_symbols}" PARENT_SCOPE)
  set(${list} "${${list}}" PARENT_SCOPE)
endfunction()

set(_debug_waits "")
if(VGG_CUDA_DEBUG_WAITS)
  set(_debug_waits -DVGG_CUDA_DEBUG_WAITS)
endif()
set(ptx "")
foreach(_item IN LISTS ptx_sources ITEMS
    "compute_80:csrc/ptx/test_kernels.cu"
    "compute_90a:csrc/ptx/test_kernels_sm90.cu")
  string(REPLACE ":" ";" _item "${_item}")
  list(GET _item 0 _front_end)
  list(GET _item 1 _source)
  vgg_ptx(ptx "${_front_end}" "${_source}" ${_debug_waits})
endforeach()
set(debug_waits_ptx "")
foreach(_name IN ITEMS dense fused_conv1_block halo)
  vgg_ptx(debug_waits_ptx compute_90a "csrc/kernels/sm90/${_name}.cu" -DVGG_CUDA_DEBUG_WAITS)
endforeach()
configure_file(cmake/ptx_texts.cpp.in "${PROJECT_BINARY_DIR}/ptx_texts.cpp" @ONLY)
set_source_files_properties("${PROJECT_BINARY_DIR}/ptx_texts.cpp" PROPERTIES
  OBJECT_DEPENDS "${_files}")

file(GLOB _emulator CONFIGURE_DEPENDS "${PROJECT_SOURCE_DIR}/csrc/emulator/*/*.cpp")
add_library(vgg_emulator OBJECT ${_emulator})
target_include_directories(vgg_emulator PRIVATE csrc)
# Always optimised, and for the building machine, since it interprets millions of instructions. The
# compiler must not fuse a kernel's separate multiplications and additions.
target_compile_options(vgg_emulator PRIVATE -O3 -ffp-contract=off)
include(CheckCXXCompilerFlag)
check_cxx_compiler_flag(-march=native VGG_HAS_MARCH_NATIVE)
if(VGG_HAS_MARCH_NATIVE)
  target_compile_options(vgg_emulator PRIVATE -march=native)
endif()
find_package(Threads REQUIRED)
target_link_libraries(_C PRIVATE vgg_emulator Threads::Threads)
target_sources(vgg_bindings PRIVATE csrc/bindings/emulator.cpp)
target_sources(_C PRIVATE csrc/launch/emulator.cpp "${PROJECT_BINARY_DIR}/ptx_texts.cpp")
