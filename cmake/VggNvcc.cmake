# Decides whether the build has CUDA, and sets VGG_WITH_CUDA and CMAKE_CUDA_COMPILER.
#
# The choice is made by build_backend/vgg_toolkit.py. The build backend has made it already and says
# so in CUDACXX and VGG_CUDA_TOOLKIT; where CMake was started by hand it is made here. The cache
# remembers it, since a rebuild may run without these variables.

if(DEFINED ENV{VGG_CUDA_TOOLKIT})
  set(VGG_CUDA_TOOLKIT "$ENV{VGG_CUDA_TOOLKIT}" CACHE STRING "auto, system, pypi or none" FORCE)
endif()

set(VGG_WITH_CUDA ON)
if(VGG_CUDA_TOOLKIT STREQUAL "none")
  set(VGG_WITH_CUDA OFF)
elseif(NOT CMAKE_CUDA_COMPILER AND DEFINED ENV{CUDACXX})
  set(CMAKE_CUDA_COMPILER "$ENV{CUDACXX}" CACHE FILEPATH "nvcc" FORCE)
elseif(NOT CMAKE_CUDA_COMPILER)
  execute_process(
    COMMAND "${Python_EXECUTABLE}" "${PROJECT_SOURCE_DIR}/build_backend/vgg_toolkit.py"
    OUTPUT_VARIABLE _nvcc RESULT_VARIABLE _failed ERROR_VARIABLE _said)
  if(_failed)
    message(FATAL_ERROR "${_said}")
  elseif(_nvcc)
    set(CMAKE_CUDA_COMPILER "${_nvcc}" CACHE FILEPATH "nvcc" FORCE)
  else()
    set(VGG_WITH_CUDA OFF)
  endif()
endif()

if(VGG_WITH_CUDA)
  message(STATUS "nvcc: ${CMAKE_CUDA_COMPILER}")
  # Packages of the toolkit keep their libraries in lib, where their nvcc.profile says lib64. As a
  # flag, so that CMake's own check of the compiler links, too; that check of CMake 3.25 takes
  # neither quotes nor a blank before it.
  get_filename_component(_root "${CMAKE_CUDA_COMPILER}/../.." ABSOLUTE)
  if(EXISTS "${_root}/lib/libcudart_static.a" AND NOT EXISTS "${_root}/lib64")
    string(PREPEND CMAKE_CUDA_FLAGS_INIT "-L${_root}/lib ")
    string(STRIP "${CMAKE_CUDA_FLAGS_INIT}" CMAKE_CUDA_FLAGS_INIT)
  endif()
else()
  message(STATUS "Building without CUDA")
endif()
